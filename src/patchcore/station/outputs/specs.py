"""Settings of outputs, as they are stored and sent through the interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from patchcore.errors import UsageError
from patchcore.station.broker import Broker, Host
from patchcore.station.errors import coded
from patchcore.station.secrets import restored
from patchcore.station.sources.specs import Topic, parsed
from patchcore.station.store.tables import Setting

_SETTING = "outputs"


def _web(url: str) -> str:
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not plain:
        raise PydanticCustomError(
            "web_address", "must begin with http:// or https:// and a host, in ASCII without spaces"
        )
    return url


class _Spec(BaseModel):
    """What all have.

    Attributes:
        name: Of the output, given by people; unlike all others.
        lines: Names of the lines whose results it tells; all, if there is none.
        verdicts: Those that it tells of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    lines: tuple[str, ...] = ()
    verdicts: tuple[Literal["pass", "unsure", "fail"], ...] = ("pass", "unsure", "fail")

    def tells(self, result: dict[str, Any]) -> bool:
        return (not self.lines or result["line"] in self.lines) and result["verdict"] in self.verdicts


class WebhookSpec(_Spec):
    """A POST of JSON to a web address, signed.

    Attributes:
        url: Where to.
        secret: What the signature is made with; the receiver has it too.
        timeout: Seconds that the receiver may take.
        hours: After so many, a message that could not be sent is given up.
    """

    kind: Literal["webhook"] = "webhook"
    url: Annotated[str, Field(max_length=1000), AfterValidator(_web)]
    secret: str = Field(min_length=16, max_length=200, repr=False)
    timeout: float = Field(default=10.0, ge=0.1, le=60)
    hours: float = Field(default=24.0, gt=0, le=24 * 30)


class MqttSpec(_Spec):
    """Messages to an MQTT broker.

    Attributes:
        broker: Which.
        topic: What all topics begin with.
        hours: After so many, a message that could not be sent is given up.
    """

    kind: Literal["mqtt"] = "mqtt"
    broker: Broker
    topic: Topic = "patchcore"
    hours: float = Field(default=24.0, gt=0, le=24 * 30)


class OpcUaSpec(_Spec):
    """An OPC UA server, which PLCs and SCADA systems read. Extra: `opcua`.

    Attributes:
        host, port: Where it listens.
    """

    kind: Literal["opcua"] = "opcua"
    host: Host = "127.0.0.1"
    port: int = Field(default=4840, ge=1, le=65535)


class ModbusSpec(_Spec):
    """A Modbus TCP server, which PLCs read; the registers are in docs/station-machines.md.

    Attributes:
        host, port: Where it listens.
    """

    kind: Literal["modbus"] = "modbus"
    host: Host = "127.0.0.1"
    port: int = Field(default=502, ge=1, le=65535)


Spec = WebhookSpec | MqttSpec | OpcUaSpec | ModbusSpec
OutputSpec = Annotated[Spec, Field(discriminator="kind")]
_SPECS: TypeAdapter[tuple[OutputSpec, ...]] = TypeAdapter(tuple[OutputSpec, ...])


def output_specs(given: object, before: Sequence[Spec] = ()) -> tuple[Spec, ...]:
    """Settings of all outputs from plain values.

    `before`: what they were: secrets that are hidden are taken from the one of the same name and kind.
    Errors: UsageError.
    """
    specs: tuple[Spec, ...] = parsed(_SPECS, given, "outputs")
    if twice := [name for name, count in Counter(spec.name for spec in specs).items() if count > 1]:
        text = f"outputs: {', '.join(twice)}: two have this name. Give each one of its own."
        raise coded(UsageError(text), "name_twice", name=twice[0], field="name")
    known = {(spec.name, spec.kind): spec.model_dump(mode="json") for spec in before}
    whole = [
        restored(one.model_dump(mode="json"), known.get((one.name, one.kind), {}), f"outputs: {one.name}")
        for one in specs
    ]
    return parsed(_SPECS, whole, "outputs")


def stored(session: Session) -> tuple[Spec, ...]:
    """The outputs that people have set. Errors: UsageError, if an older version did not know them."""
    row = session.get(Setting, _SETTING)
    return () if row is None else output_specs(row.value["outputs"])


def store(session: Session, specs: Sequence[Spec]) -> None:
    session.merge(Setting(name=_SETTING, value={"outputs": [spec.model_dump(mode="json") for spec in specs]}))
