"""The ledger of schemas that lets gateway and services be rolled out one after the other."""

from services.operations import Cleanup, ledger
from services.schemas import ours, rewritten


def test_the_ledger_is_current() -> None:
    assert rewritten(ours(), ledger()) == ledger(), "run `make schemas`: an operation's fields have changed"


def test_a_change_moves_the_current_digest_to_the_second_place() -> None:
    assert rewritten({"a": "new"}, {"a": ["old", "older"]}) == {"a": ["new", "old"]}


def test_no_change_leaves_the_previous_one() -> None:
    assert rewritten({"a": "same"}, {"a": ["same", "old"]}) == {"a": ["same", "old"]}


def test_a_removed_operation_leaves_the_ledger() -> None:
    assert rewritten({}, {"a": ["x"]}) == {}


def test_the_current_digest_is_accepted() -> None:
    assert Cleanup.digest() in Cleanup.accepted_digests()
