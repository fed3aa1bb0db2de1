"""YAML that says one thing once."""

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuses a key that stands there twice, of which the last would win without a word."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"{key.value!r} stands there twice; remove one", key.start_mark
                    )
                seen.add(key.value)
        return node


def read_yaml(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        yaml.YAMLError: it is none, or a key stands twice in one mapping.
        RecursionError: it is nested too deep.
    """
    return yaml.load(text, Loader=_Loader)
