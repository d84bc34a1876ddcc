"""Data sets at the Hugging Face hub, and local folders laid out like one. Code that a data set brings along is never run."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from softprompt_core.data.sources.parts import Part, plain_cells
from softprompt_core.errors import InvalidInput, Unavailable
from softprompt_core.json_files import link_or_copy
from softprompt_core.spec.data import DataSource

if TYPE_CHECKING:
    import datasets

_TIMEOUT_SECONDS = 10.0
_UNREACHABLE = "check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what was downloaded before"


def read_hub(source: DataSource, columns: Collection[str]) -> dict[str, tuple[Part, ...]]:
    """The splits of a hub data set or of a local folder in hub layout.

    A split that ``source.splits`` does not name is taken under its own name if it is there and not already used for another one.

    Raises:
        InvalidInput: no such data set, configuration, revision or split.
        Unavailable: the hub cannot be reached.
    """
    assert source.hub is not None
    local = os.path.isdir(source.hub)
    # A folder's files change under the same path: a cache in the user's home could serve yesterday's rows, so it gets none.
    with tempfile.TemporaryDirectory() if local else contextlib.nullcontext() as cache, _hub_errors(source.hub):
        revision = None if local else _commit(source.hub, source.revision)
        builder = _builder(source if cache is None else _with_plain_path(source, cache), revision, columns, cache)
        builder.download_and_prepare()
        hub_splits = list(builder.info.splits or {})
        names: dict[str, str] = dict(source.splits.items())
        for split in ("train", "validation", "test"):
            if split not in names and split in hub_splits and split not in names.values():
                names[split] = split
        if "train" not in names:
            do = f"name one of its splits under data.source.splits.train: {', '.join(hub_splits)}"
            raise InvalidInput("has no split called train", where=source.hub, do=do)
        return {split: (_part(builder, f"{source.hub}[{name}]", name, columns),) for split, name in names.items()}


def _with_plain_path(source: DataSource, scratch: str) -> DataSource:
    """The folder under a path without signs of a pattern, as in ``my data [v1]``: ``datasets`` would take it for one."""
    assert source.hub is not None
    if not glob.has_magic(os.path.realpath(source.hub)):
        return source
    copy = os.path.join(scratch, "folder")
    shutil.copytree(source.hub, copy, copy_function=link_or_copy)
    return source.model_copy(update={"hub": copy})


def _commit(hub: str, revision: str | None) -> str | None:
    """The commit to read: asked for first, so that an unreachable hub is noticed at once and no older copy is served silently."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        return revision
    try:
        return HfApi().dataset_info(hub, revision=revision, timeout=_TIMEOUT_SECONDS).sha
    except HFValidationError:
        do = "check data.source.hub; a folder's path is taken from the spec's folder"
        raise InvalidInput("is neither a folder nor a data set id", where=hub, do=do) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403, 404):
            do = "check id and revision; for a private or gated data set log in with `hf auth login`"
            raise InvalidInput("no such data set at the hub, or no access to it", where=hub, do=do) from None
        raise Unavailable(f"the hub answered with an error: {error}", where=hub, do="try again later") from None
    except Exception as error:  # whatever the HTTP library of the day raises: this call does nothing but reach the hub
        raise Unavailable(f"the hub cannot be reached: {error}", where=hub, do=_UNREACHABLE) from None


def _builder(source: DataSource, revision: str | None, columns: Collection[str], cache: str | None) -> datasets.DatasetBuilder:
    import datasets

    def load(**more: Any) -> datasets.DatasetBuilder:
        return datasets.load_dataset_builder(source.hub, source.config, revision=revision, cache_dir=cache, **more)

    builder = load()
    if hasattr(builder.config, "converters") and builder.info.features is None:
        # A data set of csv files: without this pandas would guess types and make 7 of "007" and nothing of "NA".
        builder = load(converters={column: str for column in sorted(columns)}, na_filter=False)
    return builder


def _part(builder: datasets.DatasetBuilder, name: str, split: str, columns: Collection[str]) -> Part:
    import datasets

    data = builder.as_dataset(split=split)
    assert isinstance(data, datasets.Dataset)
    present = [column for column in data.column_names if column in columns]
    table = data.select_columns(present).with_format("arrow")[:] if present else None
    cells = {column: plain_cells(table.column(column).to_pylist()) for column in present} if table is not None else {}
    features = {column: data.features[column] for column in present}
    names = {column: tuple(f.names) for column, f in features.items() if isinstance(f, datasets.ClassLabel)}
    return Part(name=name, columns=tuple(data.column_names), rows=data.num_rows, cells=cells, class_names=names)


@contextlib.contextmanager
def _hub_errors(hub: str) -> Iterator[None]:
    """Errors of ``datasets`` and the hub's client, as errors that a user can act on."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (ConnectionError, HfHubHTTPError) as error:
        raise Unavailable(f"the hub cannot be reached: {error}", where=hub, do=_UNREACHABLE) from None
    except (DatasetsError, FileNotFoundError, ValueError, RuntimeError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        do = "check data.source: id, config, revision and splits"
        raise InvalidInput(f"cannot be loaded: {error}{cause}", where=hub, do=do) from None
