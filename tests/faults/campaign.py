"""Many faults at random moments, run by hand: ``python -m tests.faults.campaign [--kills 20 …] [--write FILE]``.

Kills, signals, races, altered files and altered specs; what came of them, counted, as a table in Markdown. Zero is right in all
columns but the first two. The same seed and sizes make the same campaign, up to what the machine's speed decides.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from softprompt_core.errors import InvalidInput, SoftpromptError
from softprompt_core.soft_prompt import FILE_NAME, SoftPrompt
from softprompt_core.spec import load_spec
from softprompt_core.store import tags, versions
from softprompt_core.store.addresses import Addresses
from softprompt_core.store.connection import Store
from softprompt_core.store.ledger import entries
from tests.blank_database import make_blank_database
from tests.faults.mutations import MUTATIONS
from tests.services.commands import Command, Ended, Forkserver
from tests.toy_task import rows, save_taught, write_toy

COLUMNS = ("lost", "doubled", "undecided", "silently other", "otherwise wrong")
TRAINING = {"max_steps": 120, "eval_every": 20, "batch_size": 16, "patience": 20}
GATES = [{"metric": "accuracy", "at_least": 0.0}]
READ_BY_MLFLOW = ("MLmodel", "pyfunc_model.py", "requirements.txt", "conda.yaml", "python_env.yaml")
SIGNAL_S, SLOW_S, LONG_MESSAGE = 10.0, 2.0, 5000


@dataclass
class Part:
    """One row of the table; ``notes`` say what was wrong where."""

    name: str
    cases: int = 0
    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def count(self, case: str, faults: Sequence[tuple[str, str]]) -> None:
        self.cases += 1
        self.right += not faults
        for column, what in faults:
            self.wrong[column] += 1
            self.notes.append(f"{self.name}, {case}: {column}: {what}")
        print(f"{self.name}, {case}: {'; '.join(what for _, what in faults) or 'right'}", flush=True)

    def row(self) -> str:
        return "| " + " | ".join(map(str, (self.name, self.cases, self.right, *(self.wrong[name] for name in COLUMNS)))) + " |"


class Campaign:
    """Folder, base and forkserver that all parts share; each case has a home of its own."""

    def __init__(self, folder: Path, forkserver: Forkserver, seed: int) -> None:
        self.folder, self.forkserver, self.seed = folder, forkserver, seed
        self.base = save_taught(folder / "taught")
        self.blank = make_blank_database(folder / "blank") / "mlflow.db"
        self.spec("reference")
        began = time.monotonic()
        assert self.run("reference").code == 0
        self.duration = time.monotonic() - began
        self.reference = self.prompt("reference")

    def home(self, case: str) -> Path:
        home = self.folder / case / "home"
        if not home.exists():
            home.mkdir(parents=True)
            shutil.copy(self.blank, home / "mlflow.db")
        return home

    def spec(self, case: str, **changes: object) -> Path:
        return write_toy(self.folder / case / "task", self.base, training=TRAINING, gates=GATES, **changes)

    def begin(self, case: str, *arguments: str, name: str = "command") -> Command:
        environment = {"SOFTPROMPT_HOME": str(self.home(case)), "SOFTPROMPT_CHECKPOINT_S": "0"}
        spec = str(self.folder / case / "task" / "toy.yaml")
        return Command(self.forkserver, self.folder / case / name, environment, *(arguments or ("run", spec, "--json")))

    def run(self, case: str, name: str = "again") -> Ended:
        return self.begin(case, name=name).ended()

    def store(self, case: str) -> Store:
        home = self.home(case)
        return Store.connect(Addresses(f"sqlite:///{home / 'mlflow.db'}", None, (home / "artifacts").as_uri(), home))

    def prompt(self, case: str) -> str:
        """Digest of the champion's vectors."""
        store = self.store(case)
        champion = versions.aliases(store, "toy")["champion"]
        with tempfile.TemporaryDirectory() as folder:
            (file,) = versions.download_whole(store, "toy", champion, Path(folder)).rglob(FILE_NAME)
            return SoftPrompt.load(file).digest

    def faults(self, case: str, again: Ended, *, one_version: bool = True) -> Iterator[tuple[str, str]]:
        """What is wrong with a task after the command ran again."""
        store = self.store(case)
        if again.code != 0 or "champion" not in versions.aliases(store, "toy"):
            yield "lost", f"the second run ended with {again.code}: {again.err[-300:]}"
            return
        registered = versions.list_versions(store, "toy")
        if one_version and len(registered) > 1:
            yield "doubled", f"{len(registered)} versions"
        for version in registered:
            if tags.OUTCOME not in version.tags:
                yield "undecided", f"version {version.version}"
        yield from _ledger_faults(store)
        experiment = store.client.get_experiment_by_name("softprompt/toy")
        for run in store.client.search_runs([experiment.experiment_id]):
            steps = [point.step for point in store.client.get_metric_history(run.info.run_id, "train/learning_rate")]
            if len(steps) > len(set(steps)):
                yield "doubled", f"steps of run {run.info.run_id}"
            if run.info.status == "RUNNING":
                yield "otherwise wrong", f"run {run.info.run_id} is RUNNING"
        if one_version and self.prompt(case) != self.reference:
            yield "silently other", "the prompt is not that of an undisturbed run"


def _ledger_faults(store: Store) -> Iterator[tuple[str, str]]:
    champion = None
    for entry in entries.history(store, "toy"):
        if entry.status == "intent":
            yield "undecided", f"{entry.action} of version {entry.candidate} was begun and not finished"
        if entry.status == "completed" and entry.action in entries.MOVES:
            if entry.previous_champion != champion:
                yield "lost", f"version {entry.candidate} was compared with {entry.previous_champion}, not with {champion}"
            champion = entry.candidate
    if champion != versions.aliases(store, "toy").get("champion"):
        yield "otherwise wrong", "the ledger says another champion"


def kills(campaign: Campaign, count: int) -> Part:
    part, source = Part("`kill -9` at a random moment, run again"), random.Random(campaign.seed)
    for number in range(count):
        case = f"kill-{number}"
        campaign.spec(case)
        command = campaign.begin(case)
        time.sleep(source.uniform(0.02, 1.0) * campaign.duration)
        children = _children(command)
        command.kill()
        command.ended()
        _, left = psutil.wait_procs(children, timeout=SIGNAL_S)
        faults = [("otherwise wrong", f"{len(left)} processes left")] if left else []
        part.count(case, [*faults, *campaign.faults(case, campaign.run(case))])
    return part


def signals(campaign: Campaign, moments: int) -> Part:
    part = Part("SIGTERM, SIGINT, SIGHUP to process and group, run again")
    for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for to_group in (False, True):
            for number in range(moments):
                case = f"{which.name}-{'group' if to_group else 'process'}-{number}"
                campaign.spec(case)
                command = campaign.begin(case)
                time.sleep((number + 0.5) / moments * campaign.duration)
                children, began = _children(command), time.monotonic()
                (os.killpg if to_group else os.kill)(command.pid, which)
                ended, seconds = command.ended(), time.monotonic() - began
                faults = [*_signal_faults(ended, seconds, which, children), *campaign.faults(case, campaign.run(case))]
                part.count(case, faults)
    return part


def _signal_faults(
    ended: Ended, seconds: float, which: signal.Signals, children: list[psutil.Process]
) -> Iterator[tuple[str, str]]:
    if ended.code == 0:
        return  # it had ended before
    if ended.code not in (128 + which, -which):
        yield "otherwise wrong", f"exit code {ended.code}"
    if ended.code > 0 and "interrupted by" not in ended.err:
        yield "otherwise wrong", "no words"
    if "Traceback" in ended.err:
        yield "otherwise wrong", f"a traceback: {ended.err[-300:]}"
    if seconds > SIGNAL_S:
        yield "otherwise wrong", f"it took {seconds:.1f} s"
    _, left = psutil.wait_procs(children, timeout=SIGNAL_S)
    if left:
        yield "otherwise wrong", f"{len(left)} processes left"


def _children(command: Command) -> list[psutil.Process]:
    try:
        return psutil.Process(command.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def racers(campaign: Campaign, count: int) -> Part:
    part, case = Part(f"{count} variants of one task at once"), "race"
    environment = {"SOFTPROMPT_HOME": str(campaign.home(case))}
    commands = []
    for number in range(count):
        folder = campaign.folder / case / f"variant-{number}"
        training = {**TRAINING, "seed": number}
        spec = write_toy(
            folder, campaign.base, training=training, gates=[*GATES, {"metric": "accuracy", "versus": "champion", "margin": 1.0}]
        )
        commands.append(Command(campaign.forkserver, folder / "command", environment, "run", str(spec), "--json"))
    ended = [command.ended() for command in commands]
    store = campaign.store(case)
    registered = versions.list_versions(store, "toy")
    faults = [("undecided", f"version {each.version}") for each in registered if tags.OUTCOME not in each.tags]
    faults += [("lost", f"exit code {each.code}: {each.err[-300:]}") for each in ended if each.code not in (0, 20)]
    if len(registered) != count:
        faults.append(("doubled" if len(registered) > count else "lost", f"{len(registered)} versions"))
    part.count(case, [*faults, *_ledger_faults(store)])
    return part


def flips(campaign: Campaign, count: int) -> Part:
    """Bytes of the champion's files, one at a time; a byte that changes no answer may be let through.

    MLflow reads some files before any code of this project runs; there its own error is a refusal.
    """
    import mlflow
    import pandas as pd

    part, source = Part("one flipped byte of a champion's files, used"), random.Random(campaign.seed)
    store = campaign.store("reference")
    mlflow.set_tracking_uri(store.addresses.tracking_uri)
    frame = pd.DataFrame(rows(16, seed=11))[["text"]]
    (prompt,) = (path for path in (campaign.home("reference") / "artifacts").rglob(FILE_NAME) if "models" in path.parts)
    files = sorted(path for path in prompt.parents[2].rglob("*") if path.is_file() and path.suffix not in (".pyc",))

    def answers() -> list[list[object]]:
        answered: list[list[object]] = mlflow.pyfunc.load_model("models:/toy@champion").predict(frame).to_numpy().tolist()
        return answered

    right = answers()
    for number in range(count):
        file = source.choice([prompt, *files])
        content = file.read_bytes()
        where = source.randrange(len(content))
        file.write_bytes(content[:where] + bytes([content[where] ^ (1 << source.randrange(8))]) + content[where + 1 :])
        faults = []
        try:
            if answers() != right:
                faults = [("silently other", "other answers")]
        except SoftpromptError:
            pass
        except Exception as error:
            if file.name not in READ_BY_MLFLOW:
                faults = [("otherwise wrong", f"{type(error).__name__}: {str(error)[:100]}")]
        finally:
            file.write_bytes(content)
        part.count(f"flip {number}, byte {where} of {file.name}", faults)
    return part


def specs(campaign: Campaign, count: int) -> Part:
    """Texts of a spec, altered; each is read or refused in words, soon."""
    part, source = Part("altered spec files, read"), random.Random(campaign.seed)
    original = (campaign.folder / "reference" / "task" / "toy.yaml").read_text(encoding="utf-8")
    path = campaign.folder / "altered.yaml"
    for number in range(count):
        text = original
        for _ in range(source.randint(1, 4)):
            text = source.choice(MUTATIONS)(text, source)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        faults, began = [], time.monotonic()
        try:
            load_spec(path)
        except InvalidInput as error:
            if len(str(error)) > LONG_MESSAGE:
                faults.append(("otherwise wrong", f"a message of {len(str(error))} characters"))
        except BaseException as error:
            faults.append(("otherwise wrong", f"{type(error).__name__}: {str(error)[:100]}"))
        if time.monotonic() - began > SLOW_S:
            faults.append(("otherwise wrong", f"it took {time.monotonic() - began:.1f} s"))
        part.count(f"spec {number}", faults)
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"kills": 20, "moments": 3, "racers": 8, "flips": 400, "specs": 900}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default {size}; 0 leaves the part out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, metavar="FILE", help="the table goes there as well")
    chosen = parser.parse_args()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "SOFTPROMPT_"))}
    with (
        tempfile.TemporaryDirectory() as folder,
        Forkserver({**own, "DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1"}) as forkserver,
    ):
        campaign = Campaign(Path(folder), forkserver, chosen.seed)
        run: dict[str, Callable[[Campaign, int], Part]] = dict(
            kills=kills, moments=signals, racers=racers, flips=flips, specs=specs
        )
        parts = [part(campaign, size) for name, part in run.items() if (size := getattr(chosen, name))]
    headings = ("", "cases", "right", *COLUMNS)
    lines = ["| " + " | ".join(headings) + " |", "| --- |" + " ---: |" * (len(headings) - 1), *(part.row() for part in parts)]
    table = "\n".join([*lines, "", *(f"- {note}" for part in parts for note in part.notes)]) + "\n"
    print(table)
    if chosen.write:
        chosen.write.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
