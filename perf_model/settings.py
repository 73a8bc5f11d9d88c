"""Reads YAML and JSON files into checked settings, with one sentence for whatever is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from golden.errors import InputError

DATA = Path(__file__).parent / "data"

_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


class _Loader(yaml.SafeLoader):
    """Reads plain YAML, and refuses a mapping that gives a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that the YAML file `path` holds.

    Raises
    ------
    InputError
        If it can't be read, is not YAML (naming the line), or is not a mapping from names.
    """
    text = _read(path)
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path} is not valid YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date that there is not, say, or a thousand lists in each other.
        raise InputError(f"{path} is not valid YAML") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} must hold a mapping from names to values")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that the JSON file `path` holds.

    Raises
    ------
    InputError
        If it can't be read, is not JSON (naming the line), or is not an object.
    """
    try:
        content = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON in line {error.lineno}: {error.msg}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object")
    return content


def typed(value: object, kind: type, key: str, where: object) -> Any:
    """Return `value` if it is of `kind`; a whole number is a number as well, but a truth value is neither.

    Raises
    ------
    InputError
        If it is not, naming `key` and the file `where`.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"{key} in {where} must be {_WORDS[kind]}, not {value!r}")
    return value


def checked(content: Mapping[str, object], kinds: Mapping[str, type], where: object) -> dict[str, Any]:
    """Return `content` with every value checked by the type that `kinds` has for its key.

    Raises
    ------
    InputError
        If a key is unknown or a value of the wrong type, naming the key.
    """
    for key in content:
        if key not in kinds:
            raise InputError(f"{where} has an unknown key {key!r}; keys are {', '.join(kinds)}")
    return {key: typed(value, kinds[key], key, where) for key, value in content.items()}


def required(content: Mapping[str, Any], key: str, kind: type, where: object) -> Any:
    """Return ``content[key]`` if it is there and of `kind`; raise InputError otherwise."""
    if key not in content:
        raise InputError(f"{where} lacks the key {key!r}")
    return typed(content[key], kind, key, where)


def find(name: str, folder: str) -> Path:
    """Return the file that `name` is, or the YAML of that name which the package brings in `folder`.

    Raises
    ------
    InputError
        If there is neither, naming those that the package brings.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    brought = {file.stem: file for file in sorted((DATA / folder).glob("*.yaml"))}
    if name not in brought:
        kind = folder.removesuffix("s")
        raise InputError(f"there is no {kind} {name!r}; there are {', '.join(brought)}, or give a .yaml file")
    return brought[name]
