"""Write docs/reference from the code (the command line and its JSON, Python, the recipe), and docs/datasets.md.

python docs/generate.py           writes the files
python docs/generate.py --check   fails if they are not up to date
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from patchcore.cli import _COMMANDS, main
from patchcore.cli.outputs import OUTPUTS, schema_of
from patchcore.recipe import Recipe

OUT = Path(__file__).parent / "reference"
HEAD = "<!-- Written by docs/generate.py from the code: edit the docstrings, then run `make docs`. -->\n\n"

# What we promise: the names in `__all__` of these, and nothing else.
PUBLIC = (
    "patchcore", "patchcore.export", "patchcore.report", "patchcore.tuning", "patchcore.lightning",
    "patchcore.lightning.v0", "patchcore.inferencers", "patchcore.inspection", "patchcore_runtime",
)  # fmt: skip


def cli() -> str:
    context = click.Context(main, info_name="patchcore", terminal_width=100, **main.context_settings)
    parts = [HEAD, "# Command line\n\n", _block(main.get_help(context))]
    for name in _COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, terminal_width=100)
        parts += [f"\n## patchcore {name}\n\n", _block(command.get_help(inner))]
    return "".join(parts)


def _block(text: str) -> str:
    return f"```\n{text}\n```\n"


def api() -> str:
    parts = [HEAD, "# Python API\n"]
    for module_name in PUBLIC:
        module = import_module(module_name)
        parts.append(f"\n## {module_name}\n")
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) and issubclass(thing, Exception)) and callable(thing):
                parts.append(_describe(thing, name))
    module = import_module("patchcore.errors")
    parts.append(f"\n## patchcore.errors\n\n```\n{inspect.getdoc(module)}\n```\n")
    return "".join(parts)


def _describe(thing: Any, name: str) -> str:
    if not inspect.isclass(thing):
        return f"\n### {name}{_signature(thing)}\n\n{rendered(inspect.getdoc(thing))}\n"
    fields = "" if thing is Recipe else _signature(thing)
    text = f"\n### {name}{fields}\n\n{rendered(inspect.getdoc(thing))}\n"
    for member, value in vars(thing).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        document = inspect.getdoc(function)
        if member.startswith("_") or not document or member in ("model_config",):
            continue
        if inspect.isfunction(function):
            text += f"\n#### {name}.{member}{_signature(function)}\n\n{rendered(document)}\n"
        elif isinstance(value, property) or hasattr(value, "func"):
            text += f"\n#### {name}.{member}\n\n{rendered(document)}\n"
    return text


def rendered(document: str | None) -> str:
    """A docstring as Markdown: what its sections name is a list, and an example is code."""
    lines: list[str] = []
    section = example = False
    for line in [*(document or "").splitlines(), ""]:
        entry = section and re.match(r" {4}(\w[^:]*)(: .*)?$", line)
        if example and not line:
            lines.append("```")
        example = line.startswith(">>> ") or (example and bool(line))
        if example and (not lines or not lines[-1]):
            lines.append("```pycon")
        if re.match(r"(Args|Attributes|Raises):$", line):
            section = True
            lines += [f"**{line}**", ""]
        elif entry:
            names, text = entry.groups()
            code = ", ".join(f"`{name}`" for name in names.split(", ")) if text or "." not in names else names
            lines.append(f"- {code}{text or ''}")
        elif section and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            section = section and not line.strip()
            lines.append(line)
    return "\n".join(lines).strip()


def _signature(thing: Any) -> str:
    try:
        text = str(inspect.signature(thing)).replace("'", "")  # annotations are strings
        return re.sub(r"<function (\w+) at \w+>", r"\1", text)  # not where in memory a default lies
    except ValueError:
        return ""


def recipe() -> str:
    parts = [HEAD, "# Recipe fields\n\n| field | default | meaning |\n| --- | --- | --- |\n"]
    default = Recipe().to_dict()
    for name, field in Recipe.model_fields.items():
        text = str(field.description).replace("|", "\\|")
        parts.append(f"| `{name}` | `{json.dumps(default[name])}` | {text} |\n")
    parts.append("\n# Named recipes\n\nEach states only what differs from `default`.\n\n")
    for name, description in Recipe.names().items():
        differences = ", ".join(f"`{k}={json.dumps(v)}`" for k, v in Recipe.named(name).differences().items())
        parts.append(f"- **`{name}`**: {description}.{' ' + differences if differences else ''}\n")
    return "".join(parts)


def outputs() -> str:
    """What commands print with --json, from the types in `patchcore.cli.outputs`."""
    parts = [HEAD, _ABOUT_JSON]
    named: dict[tuple[type, ...], list[str]] = {}
    for name, types in OUTPUTS.items():
        named.setdefault(types, []).append(name)
    inner: dict[str, Any] = {}
    for types, names in named.items():
        parts.append(f"\n## {', '.join(names)}\n")
        for one in types:
            schema = schema_of(one)
            inner |= schema.get("$defs", {})
            parts.append(f"\n{schema['description']}\n\n{_keys(schema)}")
    parts.append("\n## Objects inside\n")
    parts += [f"\n### {name}\n\n{_keys(schema)}" for name, schema in sorted(inner.items()) if "properties" in schema]
    return "".join(parts)


_ABOUT_JSON = """# JSON output

With `--json` a command prints one JSON object per line, in UTF-8. `patchcore watch` always does. NaN and infinity,
which JSON has not, are null. `patchcore schema COMMAND` prints the same as JSON Schema, and the test suite holds every
line that a command prints against it: these keys, and no others. A key with ? may be missing.

`audit.json` holds the lines of `audit` as one list; `results.jsonl` those of `benchmark`;
`predict --results FILE.jsonl` those of `predict`. `predict --coco` writes COCO's own format, and `tune` a
[recipe](recipe.md).
"""


def _keys(schema: dict[str, Any]) -> str:
    """The table of an object's keys."""
    rows = ["| key | type | meaning |", "| --- | --- | --- |"]
    for key, one in sorted(schema["properties"].items(), key=lambda item: item[0] not in schema["required"]):
        missing = "" if key in schema["required"] else "?"
        told = one.get("description", "").replace("|", "\\|")
        rows.append(f"| `{key}`{missing} | {_type(one)} | {told} |")
    return "\n".join(rows) + "\n"


def _type(one: dict[str, Any]) -> str:
    """The type of a value, in words."""
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return "any value" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "allOf" in one:
        return _type(one["allOf"][0])
    if "anyOf" in one:
        return " or ".join(_type(other) for other in one["anyOf"])
    if "enum" in one or "const" in one:
        return ", ".join(f"`{value}`" for value in one.get("enum", [one.get("const")]))
    if one.get("type") == "array":
        size = f"{one['minItems']} " if one.get("minItems") and one.get("minItems") == one.get("maxItems") else ""
        return f"list of {size}{_type(one['items'])}" if one.get("items") else "list"
    if one.get("type") == "object" and isinstance(one.get("additionalProperties"), dict):
        return f"object of {_type(one['additionalProperties'])}" if one["additionalProperties"] else "object"
    return str(one.get("type", "any"))


def datasets() -> str:
    """The page of the datasets, from what their readers say of themselves."""
    from patchcore.data import layouts

    head = Path(__file__).with_name("datasets.head.md").read_text("utf-8").strip()
    parts = [HEAD, f"# Datasets\n\n{head}\n\n`patchcore datasets` prints what follows.\n"]
    for about, _ in layouts.datasets():
        folders = "\n".join(about.tree.split(", "))
        parts.append(
            f"\n## {about.title}\n\n- Source: <{about.source}>\n- Licence: {about.licence}.\n"
            f"- How to get it: {about.get}\n- Cite: {about.cite}.\n\n```\n{folders}\n```\n\n{about.reading}\n"
        )
    return "".join(parts)


def run(check: bool) -> list[str]:
    """Write the files; with `check`, write nothing and return those that are not up to date."""
    stale = []
    pages = {
        "cli.md": cli(),
        "json.md": outputs(),
        "api.md": api(),
        "recipe.md": recipe(),
        "../datasets.md": datasets(),
    }
    for name, text in pages.items():
        path = OUT / name
        if not check:
            OUT.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
    return stale


if __name__ == "__main__":
    stale = run("--check" in sys.argv)
    if stale:
        raise SystemExit(f"Not up to date: {', '.join(stale)}. Run `make docs`.")
