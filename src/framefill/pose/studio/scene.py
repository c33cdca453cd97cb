"""What is seen of a session: the body, dots to click at its joints, a gizmo for every handle, a picture behind it all.

The mesh is sent when the body changes; a new pose moves its bones, by small messages for the joints that moved.
Gizmos come and go with handles: arrows for places and looks, rings for turns.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from framefill.pose.studio import drawn
from framefill.pose.studio.session import Session
from framefill.pose.studio.state import Grip, Three

SIZE = {"position": 0.18, "rotation": 0.16, "look-at": 0.12}  # metres of a gizmo
SKIN, DOT, HELD, LINE = (168, 182, 196), (70, 84, 99), (0, 140, 60), (150, 60, 160)
RADIUS = 0.014  # metres of a dot
OPACITY, VEIL = 0.55, 0.2  # of the body; and while colours of uncertainty are looked at through it
THIN = 0.004  # metres of a line
STILL = 1e-4  # metres, and parts of a quaternion, by which a bone may be off before the page is told
BEHIND = 0.8  # metres from the body to the picture behind it
Moved = Callable[[Grip, Three, str], None]  # the handle, where to, and start, update or end


class Scene:
    """The scene of one page. `moved` is told of gizmos that are dragged, `clicked` of joints that are clicked."""

    def __init__(self, server: Any, session: Session, moved: Moved, clicked: Callable[[str], None]):
        self.server, self.session, self._moved, self._clicked = server, session, moved, clicked
        self._gizmos: dict[str, Any] = {}
        self._worn: Any = None
        self._mesh: Any = None
        self._told: tuple[np.ndarray, np.ndarray]  # the bones' places and turns as the page has them
        self._dots: Any = None
        self._lines: Any = None
        self._picture: Any = None
        self.spread: np.ndarray | None = None
        self.still: str | None = None  # the handle in the user's hand: its gizmo is not moved
        server.scene.set_up_direction("+y")
        server.scene.add_grid("/ground", 4.0, 4.0, plane="xz", cell_size=0.25, section_size=1.0)
        server.initial_camera.fov = 0.75
        self._given: Any = None
        self.refresh()

    def refresh(self) -> None:
        """Brings the page to the session as it is."""
        with self.server.atomic():
            places, turns = drawn.pose(self.session)
            if self._given is not self.session.state.given:
                self._undress()
            if self._worn is not self.session.character:
                self._dress()
            self.pose(places, turns)
            self._hold(places)
        self.server.flush()

    def pose(self, places: np.ndarray, turns: np.ndarray) -> None:
        """The body in a pose: places (J, 3) and turns (J, 4)."""
        told_places, told_turns = self._told
        for joint in np.flatnonzero(np.abs(places - told_places).max(1) > STILL):
            self._mesh.bones[joint].position = told_places[joint] = places[joint]
        for joint in np.flatnonzero(np.abs(turns - told_turns).max(1) > STILL):
            self._mesh.bones[joint].wxyz = told_turns[joint] = turns[joint]
        self._dots.batched_positions = places.astype(np.float32)

    def colour(self, spread: np.ndarray | None) -> None:
        """Dots in colours of uncertainty (J,), larger where less is known; none: grey, and green where held."""
        self.spread = spread
        self._paint()

    def behind(self, image: np.ndarray | None, height: float = 1.8) -> None:
        """A picture (H, W, 3) of so many metres behind the body, or none."""
        if self._picture is not None:
            self._picture.remove()
            self._picture = None
        if image is None:
            return
        width = height * image.shape[1] / image.shape[0]
        self._picture = self.server.scene.add_image(
            "/picture", image, width, height, format="jpeg", wxyz=(0.0, 1.0, 0.0, 0.0),
            position=(0.0, height / 2, -BEHIND), cast_shadow=False, receive_shadow=False,
        )  # fmt: skip

    def _undress(self) -> None:
        """Nobody is there, and the camera is where the next one can be seen."""
        for part in (self._mesh, self._dots, *self._gizmos.values()):
            if part is not None:
                part.remove()
        self._gizmos.clear()
        self._worn, self.still, self._given = None, None, self.session.state.given
        high = float(self.session.character.stands[:, 1].max())
        for camera in (self.server.initial_camera, *(client.camera for client in self.server.get_clients().values())):
            camera.position, camera.look_at = (1.1 * high, 0.9 * high, 1.7 * high), (0.0, 0.55 * high, 0.0)

    def _dress(self) -> None:
        skin = drawn.skin(self.session.character)
        self._mesh = self.server.scene.add_mesh_skinned(
            "/body", skin.vertices.astype(np.float32), skin.faces.astype(np.uint32), bone_wxyzs=skin.turns,
            bone_positions=skin.places, skin_weights=skin.weights.astype(np.float32), color=SKIN, opacity=OPACITY,
        )  # fmt: skip
        self._told = skin.places.copy(), skin.turns.copy()
        dot = drawn.ball(RADIUS)
        count = len(skin.places)
        self._dots = self.server.scene.add_batched_meshes_simple(
            "/joints", dot[0].astype(np.float32), dot[1].astype(np.uint32), np.tile([1.0, 0, 0, 0], (count, 1)),
            skin.places, batched_colors=np.tile(np.array(DOT, np.uint8), (count, 1)),
            batched_scales=np.ones(count, np.float32), lod="off", cast_shadow=False, receive_shadow=False,
            material="toon3",  # the standard one is metal, whose colour is that of its surroundings
        )  # fmt: skip
        names = self.session.character.rig.skeleton.names

        @self._dots.on_click
        def _(event: Any) -> None:
            if event.instance_index is not None:
                self._clicked(names[event.instance_index])

        self._worn = self.session.character

    def _paint(self) -> None:
        names = self.session.character.rig.skeleton.names
        held = {grip.joint for grip in self.session.state.grips}
        unsure = self.spread is not None and len(self.spread) == len(names)
        self._mesh.opacity = VEIL if unsure else OPACITY
        if self.spread is not None and unsure:
            colours = drawn.shades(self.spread)
            sizes = 1 + 1.5 * np.clip(self.spread / drawn.VAGUE, 0, 1)
        else:
            colours = np.array([HELD if name in held else DOT for name in names], np.uint8)
            sizes = np.array([1.3 if name in held else 1.0 for name in names])
        if not np.array_equal(self._dots.batched_colors, colours):
            self._dots.batched_colors = colours
        if not np.array_equal(self._dots.batched_scales, sizes.astype(np.float32)):
            self._dots.batched_scales = sizes.astype(np.float32)

    def _hold(self, places: np.ndarray) -> None:
        """One gizmo for every handle, where the handle is."""
        grips = {grip.key: grip for grip in self.session.state.grips}
        for key in [key for key in self._gizmos if key not in grips]:
            self._gizmos.pop(key).remove()
        for key, grip in grips.items():
            if key not in self._gizmos:
                self._gizmos[key] = self._gizmo(grip)
            gizmo = self._gizmos[key]
            if grip.kind == "rotation":
                gizmo.position = places[self.session.character.rig.skeleton.index(grip.joint)]
            if key != self.still:
                if grip.kind == "rotation":
                    gizmo.wxyz = drawn.turn_of(grip.target)
                else:
                    gizmo.position = grip.target
        self._thread(drawn.threads(self.session, places))
        self._paint()

    def _thread(self, lines: np.ndarray) -> None:
        if self._lines is not None and lines.shape == self._lines.points.shape:
            self._lines.points = lines.astype(np.float32)
            return
        if self._lines is not None:
            self._lines.remove()
            self._lines = None
        if len(lines):
            self._lines = self.server.scene.add_line_segments("/lines", lines.astype(np.float32), LINE, thickness=THIN)

    def _gizmo(self, grip: Grip) -> Any:
        turning = grip.kind == "rotation"
        gizmo = self.server.scene.add_transform_controls(
            f"/handles/{grip.key.replace('/', '_')}", scale=SIZE[grip.kind], disable_rotations=not turning,
            disable_axes=turning, disable_sliders=turning, depth_test=False, position=(0.0, 0.0, 0.0),
        )  # fmt: skip

        @gizmo.on_update
        async def _(event: Any) -> None:  # on the event loop: phases stay in order
            target = drawn.axis_angle(event.target.wxyz) if turning else event.target.position
            self._moved(grip, (float(target[0]), float(target[1]), float(target[2])), event.phase)

        return gizmo
