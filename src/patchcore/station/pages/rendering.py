"""Rendering: templates, with the texts of the person's language, under a strict policy."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache, partial
from pathlib import Path

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from patchcore import __version__
from patchcore.station.pages import static_files
from patchcore.station.pages.numbers import localized, number, percent
from patchcore.station.pages.texts import LANGUAGES, preferred, texts, translator
from patchcore.station.people.access import Actor
from patchcore.station.store.tables import Role

# Everything comes from this station, and nothing that is written into a page runs.
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "connect-src 'self'",
    "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
))  # fmt: skip
NAVIGATION = (  # name of the page, who may see it
    ("inspect", Role.operator),
    ("review", Role.operator),
    ("history", Role.operator),
    ("watch", Role.operator),
    ("teach", Role.engineer),
    ("verdict", Role.engineer),
    ("models", Role.engineer),
    ("lines", Role.engineer),
    ("people", Role.admin),
)
NEEDS = dict(NAVIGATION)


@cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"moment": _moment, "data": _data}
    return found


def language_of(request: Request, actor: Actor | None) -> str:
    """The person's own, else what their browser prefers; `?lang=` for those who have no account yet."""
    if actor is not None and actor.login is not None and actor.login.person.language in LANGUAGES:
        return actor.login.person.language
    asked = request.query_params.get("lang") or request.cookies.get("language", "")
    return asked if asked in LANGUAGES else preferred(request.headers.get("accept-language", ""))


def _spoken(language: str) -> dict[str, object]:
    """What templates write texts (`t`) and numbers with."""
    return {
        "t": translator(language),
        "number": partial(number, language=language),
        "percent": partial(percent, language=language),
        "localized": partial(localized, language=language),
    }


def page(request: Request, actor: Actor | None, template: str, status: int = 200, /, **values: object) -> HTMLResponse:
    """A page. `template`: its name; `values`: what that shows beside what every page has."""
    language = language_of(request, actor)
    theme = request.cookies.get("theme", "")
    data = {
        "language": language,
        "csrf": actor.login.csrf if actor and actor.login else "",
        "name": actor.name if actor else "",
        "role": actor.role.value if actor else "",
        "texts": texts(language),
    }
    shown = (
        _environment()
        .get_template(f"{template}.html")
        .render(
            language=language,
            languages=LANGUAGES,
            theme=theme if theme in ("light", "dark") else "auto",
            here=template,
            actor=actor,
            csrf=data["csrf"],
            pages=[one for one, role in NAVIGATION if actor and actor.may(role)],
            static=f"/static/{static_files.version()}",
            page_data=data,
            version=__version__,
            **_spoken(language),
            **values,
        )
    )
    return HTMLResponse(shown, status, {"content-security-policy": POLICY, "cache-control": "no-store"})


def fragment(request: Request, actor: Actor, name: str, **values: object) -> HTMLResponse:
    """A piece of a page, that a script puts into its place."""
    spoken = _spoken(language_of(request, actor))
    shown = _environment().get_template(f"{name}.html").render(**spoken, **values)
    return HTMLResponse(shown, headers={"content-security-policy": POLICY, "cache-control": "no-store"})


def _moment(time: datetime | str | None) -> str:
    """A time for people; a script brings it to their own zone."""
    if time is None:
        return ""
    return (time if isinstance(time, datetime) else datetime.fromisoformat(time)).strftime("%Y-%m-%d %H:%M:%S UTC")


def _data(value: object) -> str:
    """JSON that may stand in a script element: there is no `</script>` in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
