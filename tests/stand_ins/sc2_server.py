"""A program that answers pysc2 as StarCraft II would, started in its place. See `sc2_folder`.

It speaks the game's own API: s2clientprotocol's messages over a websocket. What it is asked for is
real, what happens in it is invented.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import sc2_game
import sc2_socket
from s2clientprotocol import sc2api_pb2 as api
from sc2_folder import Folder

LAUNCHED, INIT_GAME, IN_GAME, QUIT = api.launched, api.init_game, api.in_game, api.quit


class Server:
    """One game.

    Args:
        folder: What SC2PATH names.
        plan: What goes wrong and who wins; its keys are in `sc2_folder.Folder.plan`.
    """

    def __init__(self, folder, plan):
        self.folder = folder
        self.plan = plan
        self.status = LAUNCHED
        self.game = None
        self.seed = None
        self.actions = 0
        self.battle = 0  # how many actions came before this battle

    def answer(self, request):
        name = request.WhichOneof("request")
        self._misbehave(name)
        response = api.Response(id=request.id)
        getattr(self, f"_{name}")(getattr(request, name), response)
        response.status = self.status
        return response

    def _misbehave(self, name):
        plan = self.plan
        if name == "action":
            self.actions += 1
            if self.actions == plan.get("crash_after"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.actions == plan.get("hang_after"):
                hang()
        if name == plan.get("crash_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name == plan.get("hang_at"):
            hang()

    def _ping(self, request, response):
        response.ping.game_version = "stand-in"

    def _create_game(self, request, response):
        armies = json.loads(request.local_map.map_data)
        self.game = sc2_game.Game(armies, harmless=self.plan.get("harmless", False))
        self.game.step(0)
        self.folder.note({"pid": os.getpid(), "seed": request.random_seed})
        response.create_game.SetInParent()
        self.status = INIT_GAME

    def _join_game(self, request, response):
        response.join_game.player_id = 1
        self.status = IN_GAME

    def _game_info(self, request, response):
        info, n = response.game_info.start_raw, sc2_game.SIDE
        info.map_size.x = info.map_size.y = n
        info.playable_area.p0.x = info.playable_area.p0.y = 0
        info.playable_area.p1.x = info.playable_area.p1.y = n
        for grid, bits, byte in (
            (info.pathing_grid, 1, b"\xff"),
            (info.terrain_height, 8, b"\x80"),
        ):
            grid.bits_per_pixel = bits
            grid.size.x = grid.size.y = n
            grid.data = byte * (n * n * bits // 8)

    def _data(self, request, response):
        for i in range(sc2_game.UNITS_IN_DATA):
            response.data.units.add(unit_id=i, name=f"unit {i}")

    def _observation(self, request, response):
        observation = response.observation.observation
        observation.game_loop = self.game.loop
        for unit in self.game.observe():
            u = observation.raw_data.units.add()
            u.tag, u.unit_type, u.owner, u.alliance = unit.tag, unit.unit_type, unit.owner, 1
            u.pos.x, u.pos.y, u.pos.z = unit.x, unit.y, 0.0
            u.radius, u.facing = 0.4, 0.0
            u.health, u.health_max, u.shield, u.shield_max = unit.health, 45.0, unit.shield, 0.0

    def _action(self, request, response):
        for action in request.actions:
            c = action.action_raw.unit_command
            p = c.target_world_space_pos
            self.game.command(c.unit_tags, c.ability_id, c.target_unit_tag, (p.x, p.y))
            response.action.result.append(1)
        response.action.SetInParent()
        steps = self.actions - self.battle
        plan = self.plan
        if steps == plan.get("wins_after") and "winner" in plan:
            self._die(lambda u: u.owner != plan["winner"])
        if steps == plan.get("dies_after"):
            first = min((u.unit_type, u.x, u.y) for u in self._agents())
            self._die(lambda u: u.owner == 1 and (u.unit_type, u.x, u.y) == first)

    def _agents(self):
        return [u for u in self.game.units.values() if u.owner == 1]

    def _die(self, who):
        for unit in [u for u in self.game.units.values() if who(u)]:
            del self.game.units[unit.tag]

    def _step(self, request, response):
        self.game.step(request.count)
        response.step.simulation_loop = self.game.loop

    def _debug(self, request, response):
        for command in request.debug:
            if command.HasField("create_unit"):
                c = command.create_unit
                for _ in range(c.quantity):
                    self.game.create(c.unit_type, c.owner, c.pos.x, c.pos.y)
                self.battle = self.actions
            elif not self.plan.get("immortal"):
                for tag in command.kill_unit.tag:
                    self.game.units.pop(tag, None)
                self.battle = self.actions
        response.debug.SetInParent()

    def _restart_game(self, request, response):
        self.game = sc2_game.Game(self.game.armies, self.game.harmless)
        response.restart_game.SetInParent()

    def _quit(self, request, response):
        response.quit.SetInParent()
        self.status = QUIT


def hang():
    """Like a game that hangs: it does nothing, and asking it to end is of no use."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def main():
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    folder = Folder(arguments["-dataDir"])
    plan = folder.take_plan()
    if plan.get("children"):
        # In a session of its own, so that it is not found through the process group.
        command = [sys.executable, "-c", "import time; time.sleep(3600)", str(folder.path)]
        subprocess.Popen(command, start_new_session=True)
    if plan.get("crash_at") == "launch":
        sys.exit(1)
    if plan.get("hang_at") == "launch":
        hang()
    with socket.create_server((arguments["-listen"], int(arguments["-port"]))) as listening:
        connection = sc2_socket.accept(listening)
    server = Server(folder, plan)
    try:
        while server.status != QUIT:
            message = sc2_socket.receive(connection)
            if message is None:
                break
            response = server.answer(api.Request.FromString(message))
            sc2_socket.send(connection, response.SerializeToString())
    except (EOFError, ConnectionError, BrokenPipeError):
        pass
