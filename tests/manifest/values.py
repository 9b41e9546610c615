"""JSON values of all kinds, among them those that look like parts of a manifest."""

from typing import Any

from hypothesis import strategies as st

KEYS = st.sampled_from(
    [
        *("modulesContent", "deviceContent", "content", "$edgeAgent", "$edgeHub", "temp", "$secret", "value", "env"),
        *(
            "properties.desired",
            "properties.desired.modules.temp",
            "properties.desired.routes.up",
            "properties.desired.",
        ),
        *(
            "schemaVersion",
            "runtime",
            "systemModules",
            "modules",
            "settings",
            "image",
            "createOptions",
            "type",
            "routes",
        ),
        *("createOptions01", "edgeAgent", "edgeHub", "status", "startupOrder", "registryCredentials", "password"),
    ]
) | st.text(max_size=4)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["docker", "1.1", "1.0", "running", "FROM /* INTO $upstream", "${X}", "{", "\ud800", "a:b:c"])
)


def _containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=4)


anything: st.SearchStrategy[Any] = st.recursive(SCALARS, _containers, max_leaves=25)
objects: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text("xyz", max_size=3),
        lambda children: (
            st.lists(st.integers(), max_size=2)
            | st.dictionaries(st.text("abc", min_size=1, max_size=2), children, max_size=3)
        ),
        max_leaves=10,
    ),
    max_size=4,
)
