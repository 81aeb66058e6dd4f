"""The rung "abuse": hostile requests, none of which may be answered with 500, hang, or end the model.

After each attack the model has to be healthy and answer a good request as before. Python 3.8's own library.
"""

from __future__ import annotations

import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from time import monotonic

from pipelines.in_engine.check_attacks import ATTACKS, JSON_TYPE, NAMES, RAW_ATTACKS, RawShot, Shot, half_open
from pipelines.in_engine.check_cases import Request
from pipelines.in_engine.check_compare import shown
from pipelines.in_engine.check_http import Answer, NoAnswerError, Target
from pipelines.in_engine.check_rung import MOST_TOLD, Context, Failure, Piece
from pipelines.in_engine.check_samples import Sample, good_samples

RAW_WAIT_S = 3.0
NOT_IMPLEMENTED = (501, 505)
"""Right answers to a method or a version that nobody knows (RFC 9110, 15.6.2 and 15.6.6)."""
OVERLOADED = (429, 503)


@dataclass
class Attack:
    """One attack and what came of it."""

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dead: bool = False

    def told(self) -> Piece:
        """For the report."""
        return {
            "name": self.name,
            "ok": not self.messages,
            "sent": sum(self.statuses.values()),
            "answers": dict(sorted(self.statuses.items())),
            "messages": [message[:600] for message in self.messages[:5]],
            "notes": self.notes[:5],
        }


class Abuser:
    """Attacks one model."""

    def __init__(self, context: Context) -> None:
        self.plan = context.plan["abuse"]
        self.health = context.plan["health"]
        self.target = Target(context.plan["host"], context.plan["port"], self.plan["within_s"])
        self.patient = context.target
        good = good_samples(context)
        self.good: Sample | None = min(good, key=lambda one: len(one.request.body or b""), default=None)
        headers = (("Content-Type", JSON_TYPE),)
        own = Request("POST", context.plan["path"], headers, b'{"data": "x"}')
        self.request = self.good.request if self.good else own
        self.takes_s = self.quickest()

    def quickest(self) -> float:
        """How long one good answer takes now."""
        start = monotonic()
        with suppress(NoAnswerError):
            self.ask_well()
        return monotonic() - start

    def run(self, name: str) -> Attack:
        """One attack, and whether the model is still there."""
        attack = Attack(name)
        if name in ATTACKS:
            for shot in ATTACKS[name](self.request, self.plan):
                self.shoot(attack, shot)
        elif name in RAW_ATTACKS:
            for raw in RAW_ATTACKS[name](self.request, self.plan):
                self.shoot_raw(attack, raw)
        elif name == "slow":
            self.hold_open(attack)
        else:
            self.at_once(attack)
        why = self.gone()
        if why:
            attack.dead = True
            attack.messages.insert(0, f"the model does not answer after it: {why}")
        return attack

    def shoot(self, attack: Attack, shot: Shot) -> None:
        """Send one request and judge its answer."""
        request = shot.request
        try:
            answer = self.target.ask(request.method, request.path, request.headers, request.body)
        except NoAnswerError as err:
            late = str(err).startswith("no whole answer")
            attack.statuses["late" if late else "closed"] += 1
            if late or not shot.may_close:
                attack.messages.append(f"{shot.name}: {err}")
            return
        attack.statuses[str(answer.status)] += 1
        self.judge(attack, shot.name, answer)

    def judge(self, attack: Attack, name: str, answer: Answer) -> None:
        """Whether the answer may come."""
        fine = attack.name == "unknown_method" and answer.status in NOT_IMPLEMENTED
        if answer.status >= 500 and not fine:
            said = shown(answer.body[:200].decode("utf-8", "replace").strip())
            attack.messages.append(f"{name}: status is {answer.status}; the answer was {said}")
        elif answer.status < 400 and attack.name in self.plan["refused"]:
            attack.messages.append(f"{name}: status is {answer.status}, expected 400 to 499")

    def shoot_raw(self, attack: Attack, shot: RawShot) -> None:
        """Send bytes. Closing is an answer, and so is waiting for more: only a 500 is none."""
        status = self.exchange(shot.data)
        attack.statuses[status] += 1
        if status == "500":
            attack.messages.append(f"{shot.name}: status is 500")
        elif status in ("200", "open") and attack.name in self.plan["refused"]:
            attack.messages.append(f"{shot.name}: neither refused nor closed ({status})")

    def exchange(self, data: bytes) -> str:
        """The status that is answered to ``data``; "closed", "open"."""
        try:
            with socket.create_connection(
                (self.target.host, self.target.port), timeout=min(RAW_WAIT_S, self.target.timeout_s)
            ) as connection:
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                start = connection.recv(64)
        except OSError as err:  # before Python 3.10 a socket's timeout is no TimeoutError
            return "open" if isinstance(err, (socket.timeout, TimeoutError)) else "closed"
        words = start.split(None, 2)
        return (
            words[1].decode("ascii", "replace")[:3] if len(words) > 1 and start[:5] == b"HTTP/" else "closed"
        )

    def hold_open(self, attack: Attack) -> None:
        """Many connections that begin a request and stay silent, while a good one is asked."""
        with ExitStack() as held:
            for number in range(self.plan["concurrent"]):
                try:
                    one = socket.create_connection((self.target.host, self.target.port), timeout=2)
                    held.enter_context(one)
                    one.sendall(half_open(self.request)[number % 2])
                except OSError:
                    attack.statuses["closed"] += 1
                else:
                    attack.statuses["open"] += 1
            try:
                self.ask_well()
            except NoAnswerError as err:
                note = f"{attack.statuses['open']} silent connections keep it from answering others ({err})"
                (attack.messages if "slow" in self.plan["refused"] else attack.notes).append(note)

    def at_once(self, attack: Attack) -> None:
        """Many good requests at once; fewer where the model is slow. 429 and 503 are good answers too."""
        room = int(self.patient.timeout_s / 2 / max(self.takes_s, 0.001))
        many = max(2, min(self.plan["concurrent"], room))
        if many < self.plan["concurrent"]:
            attack.notes.append(f"{many} at once, for one takes {self.takes_s:.1f} s")

        def one(_: int) -> str:
            try:
                return str(self.ask_well(patient=True).status)
            except NoAnswerError as err:
                return str(err)

        wanted = str(self.good.status) if self.good else "200"
        with ThreadPoolExecutor(many) as pool:
            for said in pool.map(one, range(many)):
                attack.statuses[said if said.isdigit() else "none"] += 1
                if said != wanted and said not in map(str, OVERLOADED):
                    attack.messages.append(f"one of {many} good requests at once: {said}")

    def ask_well(self, *, patient: bool = False) -> Answer:
        """The answer to a good request; of the health path where there is none. Raises NoAnswerError."""
        target = self.patient if patient else self.target
        if self.good is None:
            return target.ask("GET", self.health)
        one = self.good.request
        return target.ask(one.method, one.path, one.headers, one.body)

    def gone(self) -> str:
        """Why the model is not what it was; "" if it is. It has as long as any answer may take."""
        try:
            status = self.patient.ask("GET", self.health).status
            if status != 200:
                return f"GET {self.health} is answered with {status}"
            answer = self.ask_well(patient=True)
        except NoAnswerError as err:
            return str(err)
        wanted = self.good.status if self.good else 200
        return "" if answer.status == wanted else f"a good request is answered with {answer.status}"


def abuse(context: Context) -> Piece:
    """Every attack that is wanted, up to one that the model does not outlive."""
    abuser, attacks = Abuser(context), []
    for name in NAMES:
        if name in context.plan["abuse"]["skip"]:
            continue
        attacks.append(abuser.run(name))
        if attacks[-1].dead:
            break
    failed = [attack for attack in attacks if attack.messages]
    sent = sum(sum(attack.statuses.values()) for attack in attacks)
    detail = f"outlived {len(attacks)} attacks ({sent} requests)"
    if failed:
        first = failed[0]
        detail = f"{first.name}: {first.messages[0]}"
    return {
        "ok": not failed,
        "detail": detail[:600],
        "good_request": _good_request(abuser),
        "attacks": [attack.told() for attack in attacks],
        "failures": [Failure(0, attack.name, attack.messages) for attack in failed][:MOST_TOLD],
    }


def _good_request(abuser: Abuser) -> str:
    """Which good request it was that had to be answered after each attack."""
    return f"{abuser.good.file}:{abuser.good.line}" if abuser.good else f"GET {abuser.health}"
