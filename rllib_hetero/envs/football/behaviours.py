"""Counts what a team does in a match: goals, assists, passes, conceded goals, lost balls.

A2PO's paper reports goal, assist, pass, pass rate and lost (Table 3) without defining them. These
definitions need nothing but who has the ball.

- A *spell* is the time a player has the ball. It goes on while nobody has it, until another player
  has it, a goal is scored, or the game stops (throw-in, foul, ...).
- A spell in which a controlled player chose one of the three passes is an attempted *pass* once
  it is over, unless it ended with a goal. It is completed if the next spell is a teammate's,
  without a stop in between.
- *Assist*: a goal in the spell of a player whose previous spell was a teammate's, without a stop
  in between.
"""

from __future__ import annotations

from collections.abc import Sequence

from rllib_hetero.envs.football.features import Raw

PASSES = frozenset({9, 10, 11})
"""The actions long, high and short pass."""

LEFT, RIGHT = 0, 1
Player = tuple[int, int]  # team, number


class Behaviours:
    """Follows one episode.

    Args:
        raw: The observation at its start.
    """

    def __init__(self, raw: Raw) -> None:
        self._attempted = self._completed = self._assists = self._turnovers = 0
        self._before = raw
        self._holder = _owner(raw)  # whose spell it is
        self._giver: Player | None = None  # whose spell it was before
        self._last_team = -1 if self._holder is None else self._holder[0]
        self._tries = False  # whether a pass was chosen in this spell

    def step(self, actions: Sequence[int], raw: Raw) -> None:
        """Counts one step.

        Args:
            actions: The n controlled players' actions (integers 0 to 18).
            raw: The observation after the step.
        """
        before, self._before = self._before, raw
        owner = _owner(before)
        if owner is not None and owner[0] == LEFT:
            players = before["left_agent_controlled_player"]
            self._tries |= any(
                p == owner[1] and u in PASSES for p, u in zip(players, actions, strict=True)
            )
        if list(raw["score"]) != list(before["score"]):
            self._goal(scored=raw["score"][LEFT] > before["score"][LEFT])
        elif raw["game_mode"] != 0 and before["game_mode"] == 0:
            self._end_spell(completed=False)
            self._giver = None
        now = _owner(raw)
        if now is not None and now != self._holder:
            self._turnovers += self._last_team == LEFT and now[0] == RIGHT
            self._last_team = now[0]
            self._giver = self._holder
            self._end_spell(completed=now[0] == LEFT)
            self._holder = now

    def counts(self) -> dict[str, float]:
        """Name to number, of the episode so far.

        "goal", "lost": goals scored and conceded. "assist". "pass": attempted. "pass_rate":
        completed over attempted, 0 if none was. "turnover": how often the ball went over to the
        other team, other than by a goal.
        """
        scored, conceded = self._before["score"]
        return {
            "goal": float(scored),
            "lost": float(conceded),
            "assist": float(self._assists),
            "pass": float(self._attempted),
            "pass_rate": self._completed / self._attempted if self._attempted else 0.0,
            "turnover": float(self._turnovers),
        }

    def _end_spell(self, *, completed: bool) -> None:
        self._attempted += self._tries
        self._completed += self._tries and completed
        self._tries = False
        self._holder = None

    def _goal(self, *, scored: bool) -> None:
        pair = (self._giver, self._holder)
        self._assists += scored and all(p is not None and p[0] == LEFT for p in pair)
        self._tries = False  # it was a shot, whatever it was meant to be
        self._holder = self._giver = None
        self._last_team = -1  # what follows is the kick-off


def _owner(raw: Raw) -> Player | None:
    team = int(raw["ball_owned_team"])
    return None if team < 0 else (team, int(raw["ball_owned_player"]))
