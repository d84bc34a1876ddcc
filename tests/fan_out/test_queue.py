"""Who gets what: bases stay where they are, the dead are replaced, nothing is lost and nothing is done for ever."""

from __future__ import annotations

from collections.abc import Iterator

from softprompt_core.errors import Outcome, Unavailable
from tasks.fan_out.queue import Item, Queue, Taken, Worker


def items(*bases: str) -> list[Item]:
    return [Item(f"task {place}", base, (place,)) for place, base in enumerate(bases)]


def worker(number: int, life: int = 1, node: str = "n1") -> Worker:
    return Worker(number, node, f"worker {number}, life {life}")


def rest(queue: Queue, who: Worker) -> Iterator[Taken]:
    """What a worker gets while it does everything at once."""
    while (taken := queue.take(who)) is not None:
        queue.done(taken.index, "done")
        yield taken


def test_workers_share_bases_out_and_stay_with_theirs() -> None:
    queue = Queue(items("a", "b", "a", "b", "a"))
    first, second = queue.take(worker(1)), queue.take(worker(2))
    assert first and second and (first.item.base, second.item.base) == ("a", "b")
    for taken in (first, second):
        queue.done(taken.index, "done")
    third = queue.take(worker(2))
    assert third and third.item.base == "b"
    assert [taken.item.base for taken in rest(queue, worker(1))] == ["a", "a"]
    assert queue.take(worker(1)) is None


def test_a_worker_that_was_started_again_goes_on_with_what_killed_its_process() -> None:
    queue = Queue(items("a", "a", "a"))
    queue.take(worker(1))
    queue.take(worker(2))
    again = queue.take(worker(1, life=2))
    assert again and again.index == 0 and again.before == ("worker 1, life 1",)
    said, complete = queue.look()
    assert not complete and said == ["task 0: its worker 1 died; it goes on from its last checkpoint"]


def test_an_item_that_kills_every_worker_is_given_up_and_the_others_are_done() -> None:
    queue = Queue(items("a", "a"), tries=3)
    for life in range(1, 4):
        taken = queue.take(worker(1, life))
        assert taken and taken.index == 0
    assert [taken.index for taken in rest(queue, worker(1, life=4))] == [1]
    found = queue.results()
    assert queue.look()[1] and found[1] == "done"
    assert isinstance(found[0], Unavailable) and found[0].outcome is Outcome.UNAVAILABLE
    assert "3 workers died over it" in str(found[0])


def test_what_a_dead_node_held_is_free_for_others_and_has_one_result() -> None:
    queue = Queue(items("a", "b"))
    held = queue.take(worker(1, node="gone"))
    assert held
    (kept,) = rest(queue, worker(2))
    assert kept.index == 1 and not queue.look(["gone", "n1"])[1]
    queue.look(["n1"])
    assert queue.called() == {2}  # nobody need wait for the other one
    taken = queue.take(worker(2))
    assert taken and taken.index == 0 and taken.before == ("worker 1, life 1",)
    queue.done(taken.index, "first")
    queue.done(held.index, "second")  # it was only out of reach
    assert queue.results()[0] == "first" and queue.look()[1]
