"""Common: what routes share."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from patchcore.station.people.access import Actor, need
from patchcore.station.station import Station
from patchcore.station.store.tables import Role


def station_of(request: Request) -> Station:
    return cast(Station, request.app.state.station)


Here = Annotated[Station, Depends(station_of)]
Operator = Annotated[Actor, Depends(need(Role.operator))]
Engineer = Annotated[Actor, Depends(need(Role.engineer))]
Admin = Annotated[Actor, Depends(need(Role.admin))]
