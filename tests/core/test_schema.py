from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import UsageError
from kickwheel.core.schema import MOST, inlined, pointed


def test_references_are_written_out() -> None:
    written = inlined(
        {
            "type": "object",
            "properties": {
                "a": {"$ref": "#/$defs/Guest", "description": "who"},
                "b": {"type": "array", "items": {"$ref": "#/$defs/Guest"}},
            },
            "$defs": {
                "Guest": {"type": "object", "properties": {"room": {"$ref": "#/$defs/Room"}}},
                "Room": {"type": "string"},
            },
        }
    )
    guest = {"type": "object", "properties": {"room": {"type": "string"}}}
    assert written == {
        "type": "object",
        "properties": {
            "a": {**guest, "description": "who"},
            "b": {"type": "array", "items": guest},
        },
    }


def test_what_contains_itself_stays_a_reference() -> None:
    tree = {"type": "object", "properties": {"below": {"$ref": "#/$defs/Tree"}}}
    written = inlined({"properties": {"tree": {"$ref": "#/$defs/Tree"}}, "$defs": {"Tree": tree}})
    below = {"type": "object", "properties": {"below": {"$ref": "#/$defs/Tree"}}}
    assert written == {"properties": {"tree": below}, "$defs": {"Tree": below}}


def test_references_may_lead_anywhere_in_another_document() -> None:
    document = {
        "components": {"schemas": {"a/b": {"type": "string"}}},
        "paths": [{"x": {"type": "integer"}}],
    }
    written = inlined(
        {
            "items": {"$ref": "#/components/schemas/a~1b"},
            "prefixItems": [{"$ref": "#/paths/0/x"}, {"$ref": "#/components/schemas/none"}],
        },
        document,
    )
    assert written == {
        "items": {"type": "string"},
        "prefixItems": [{"type": "integer"}, {"$ref": "#/components/schemas/none"}],
    }


def test_two_that_stay_and_share_a_last_name_are_told_apart() -> None:
    document = {
        "a": {"Node": {"properties": {"next": {"$ref": "#/a/Node"}}}},
        "b": {"Node": {"items": {"$ref": "#/b/Node"}}},
    }
    written = inlined({"anyOf": [{"$ref": "#/a/Node"}, {"$ref": "#/b/Node"}]}, document)
    assert written["$defs"] == {
        "Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}},
        "Node_": {"items": {"$ref": "#/$defs/Node_"}},
    }


def test_a_property_may_be_called_like_a_keyword() -> None:
    rules = {"properties": {"$ref": {"type": "string"}, "$defs": {"type": "null"}}}
    assert inlined(rules) == rules


def test_definitions_that_double_each_other_stay_small() -> None:
    doubling: dict[str, Any] = {
        f"D{n}": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}, {"$ref": f"#/$defs/D{n + 1}"}]}
        for n in range(40)
    }
    written = inlined({"$ref": "#/$defs/D0", "$defs": {**doubling, "D40": {"type": "string"}}})
    assert 1000 < str(written).count("anyOf") < MOST
    assert "D40" not in written["$defs"] or written["$defs"]["D40"] == {"type": "string"}


def test_a_schema_that_is_nested_too_deep_is_told() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}
    with pytest.raises(UsageError, match="nested too deep"):
        inlined(deep)


NAMES = ("A", "B", "C/~")


def schemas() -> st.SearchStrategy[Any]:
    references = st.sampled_from(NAMES).map(
        lambda name: {"$ref": "#/$defs/" + name.replace("~", "~0").replace("/", "~1")}
    )
    return st.recursive(
        references | st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"])}),
        lambda inner: (
            st.fixed_dictionaries({"items": inner})
            | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})
            | st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from("xy"), inner)})
        ),
        max_leaves=6,
    )


def unfolded(node: Any, root: Any, depth: int) -> Any:
    """The schema with every reference followed, down to a depth."""
    if depth == 0:
        return "…"
    if isinstance(node, list):
        return [unfolded(entry, root, depth - 1) for entry in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        return unfolded(pointed(root, node["$ref"]), root, depth)
    return {key: unfolded(value, root, depth - 1) for key, value in node.items() if key != "$defs"}


def straight(name: str, definitions: Any, seen: tuple[str, ...] = ()) -> bool:
    """Whether a definition is more than a name for itself."""
    if name in seen:
        return False
    reference = definitions[name].get("$ref")
    if reference is None:
        return True
    target = reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
    return straight(target, definitions, (*seen, name))


@settings(deadline=None)
@given(top=schemas(), definitions=st.fixed_dictionaries({name: schemas() for name in NAMES}))
def test_a_schema_means_the_same_when_its_references_are_written_out(
    top: Any, definitions: Any
) -> None:
    if not all(straight(name, definitions) for name in NAMES):
        return
    whole = {**top, "$defs": definitions}
    written = inlined(whole)
    assert unfolded(written, written, 9) == unfolded(whole, whole, 9)
