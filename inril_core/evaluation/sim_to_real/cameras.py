"""How cameras stand from where the simulated cell has them: its pictures are fitted to recorded images.

Direct image alignment (Lucas & Kanade, "An iterative image registration technique", IJCAI 1981): the cell is drawn as
it was recorded, and the six numbers of each camera are sought with which the drawn images are the recorded ones, from
strongly blurred images to hardly blurred ones. Light that changes is taken out by a gain and an offset of each image's
channels; what the cell does not draw alike counts less the more it differs (`scipy.optimize.least_squares`, soft L1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from inril_core.contract import Contract, ImageField
from inril_core.contract.definitions.physics import CameraOffset, CameraRanges
from inril_core.data.episode import Episode
from inril_core.errors import InrilError
from inril_core.sim.camera_poses import CameraPoses
from inril_core.sim.render import CellRenderer
from inril_core.sim.scenes.base import TIMESTEP_S, make_scene
from inril_core.tasks.families.cell import drawn_image

Array = npt.NDArray[np.float64]

IMAGES_N, LEAST_IMAGES_N = 9, 4
"""Of each camera: how many are compared, evenly from all that there are, and how many there must be."""
LARGEST_PX = 160
"""Larger images are compared at half, a third, ... of their size."""
COARSE_PX, FINE_PX = (4.0, 2.0), 1.0
"""Standard deviation of the blur, from coarse to fine."""
COARSE_EVERY = 3
"""Coarse levels look at every third image."""
FINE_STEPS_N = 6
"""Gauss-Newton steps of the fine level."""
STEP = np.array([0.002] * 3 + [0.004] * 3)
"""Of finite differences, m and rad: about half a pixel."""
_PLACES = 0.2 * np.array([[1, 1, 1, 1, 1, 1], [-1, 1, -1, 1, -1, 1], [1, -1, -1, 1, 1, -1], [1, 1, -1, -1, -1, -1]])
_PLACES = np.vstack([_PLACES, -_PLACES])
"""Around the pose, in units of `STEP`, each with its opposite: where the last step is made."""
BOUND = np.array([0.05] * 3 + [0.2] * 3)
"""Of the search either way, m and rad."""
LARGEST_ERROR = np.array([0.01] * 3 + [0.03] * 3)
"""A larger standard error says that the images do not tell, m and rad."""
LEAST_CONTRAST, LEAST_NOISE = 3.0, 0.5
"""Grey levels: standard deviation over a blurred image, and the scale from which a difference counts less."""
DARKEST, BRIGHTEST = 1, 254
"""Grey levels that may be those of what is darker or brighter still."""
LEAST_EXPLAINED = 0.5
"""Share of the images' variance that the drawn ones have to explain."""
LARGEST_CONDITION = 1e8
"""Of the normal equations, in units of `STEP`."""
TILES_N = 6
"""An image is cut into so many rows and columns of tiles, whose errors are taken to be independent."""


class Unclear(InrilError):
    """The images say too little of where the camera stands; the message says why."""


class View(NamedTuple):
    """An image, and the cell when it was taken."""

    field: ImageField
    qpos: Array
    """float64[nq + 7 nmocap], see `CellState`."""
    image: npt.NDArray[np.uint8]
    """uint8[height_px, width_px, 3]."""


@dataclass(frozen=True)
class CameraFit:
    """How a camera stands, see `CameraOffset`."""

    value: CameraOffset
    error: CameraOffset
    """Standard errors."""
    rms_before: float
    """Between recorded and drawn images, blurred by a pixel, grey levels: with the camera where the model has it."""
    rms: float
    images_n: int

    def ranges(self, width: float = 2.0) -> CameraRanges:
        """To randomise over: the estimate plus and minus so many standard errors."""
        bounds = [
            tuple((v - width * e, v + width * e) for v, e in zip(values, errors, strict=True))
            for values, errors in zip(self.value, self.error, strict=True)
        ]
        return CameraRanges.model_validate({"offset_m": bounds[0], "rotation_rad": bounds[1]})


@dataclass(frozen=True)
class CameraFits:
    """What recordings say of the cameras whose images they hold."""

    found: Mapping[str, CameraFit] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why nothing is said of a camera."""


def fit_cameras(contract: Contract, recordings: Sequence[Episode], replayed: Sequence[Array]) -> CameraFits:
    """Where the cameras stand whose images are in recordings of a contract's interface.

    Args:
        replayed: of each recording the cell's states ``[n, nq + 7 nmocap]`` at its first observations, for images of
            which the recording itself has none (`Episode.qpos`): those of a robot.
    """
    found, refused = {}, {}
    for camera, views in sorted(_views(contract, recordings, replayed).items()):
        try:
            found[camera] = fit_camera(contract, camera, views)
        except InrilError as error:
            refused[camera] = str(error)
    return CameraFits(found, refused)


def fit_camera(contract: Contract, camera: str, views: Sequence[View]) -> CameraFit:
    """Where one camera stands, from its images.

    Raises:
        Unclear: too few images, flat ones, ones that do not look like what the cell draws from anywhere near, or ones
            from which a direction cannot be told; or the cell has no such camera.
        RenderError: this machine cannot draw, or a state is not the cell's.
    """
    if len(views) < LEAST_IMAGES_N:
        raise Unclear(
            f"{len(views)} images whose state of the cell is known, {LEAST_IMAGES_N} are needed; record more, or "
            "replay more steps"
        )
    chosen = [views[i] for i in np.unique(np.linspace(0, len(views) - 1, IMAGES_N).round().astype(int))]
    pictures = _Pictures(contract, camera, chosen)
    try:
        return _fit(pictures)
    finally:
        pictures.close()


class _Pictures:
    """Images of one camera, and what the cell draws instead of them."""

    def __init__(self, contract: Contract, camera: str, views: Sequence[View]) -> None:
        scene = make_scene(contract, TIMESTEP_S)
        if camera not in scene.cameras:
            raise Unclear(
                f"the simulated cell has no such camera; it has {', '.join(scene.cameras)}, give a contract whose "
                "images are named after these"
            )
        self._camera, self._views = camera, views
        self._poses = CameraPoses(scene.model, scene.cameras)
        self._renderer = CellRenderer(scene.model, scene.cameras)
        for view in views:
            wanted = (view.field.height_px, view.field.width_px, 3)
            if view.image.shape != wanted or view.image.dtype != np.uint8:
                raise Unclear(
                    f"image {view.field.name}: is {view.image.dtype}{list(view.image.shape)}, uint8{list(wanted)} in "
                    "the contract; give the contract that the images were recorded with"
                )
        levels = (*COARSE_PX, FINE_PX)
        lit = [((view.image > DARKEST) & (view.image < BRIGHTEST)).astype(np.uint8) * 255 for view in views]
        self._seen = {px: [_blurred(_shrunk(told), px) > 0.95 * 255 for told in lit] for px in levels}
        """By blur, of each image: which numbers are neither black nor white, nor blurred with such. Black and white do
        not say how bright it is."""
        images = [_shrunk(view.image) for view in views]
        self.recorded = {
            px: [_centred(_blurred(image, px), seen) for image, seen in zip(images, self._seen[px], strict=True)]
            for px in levels
        }
        """By blur: ``[h, w, 3]`` less each channel's mean, grey levels; 0 where it is black or white."""

    @property
    def count(self) -> int:
        return len(self._views)

    def errors(self, x: Array, blur_px: float, every: int = 1, times: int = 1) -> Array:
        """Recorded minus drawn, all pixels of every so many images in one row.

        x: six numbers, m and rad, see `CameraOffset`. times: the cell is drawn so much larger, and made smaller.
        """
        a, b, c, d, e, f = x.tolist()
        self._poses.move(self._camera, CameraOffset((a, b, c), (d, e, f)))
        rows = []
        whole = zip(self.recorded[blur_px], self._seen[blur_px], self._views, strict=True)
        for recorded, seen, view in list(whole)[::every]:
            drawn = _centred(_blurred(_shrunk(self._picture(view, times)), blur_px), seen)
            power = np.maximum((drawn**2).sum(axis=(0, 1)), 1e-9)
            gain = (
                np.maximum((recorded * drawn).sum(axis=(0, 1)), 0.0) / power
            )  # light turns no image into its negative
            rows.append((recorded - gain * drawn).ravel())
        return np.concatenate(rows)

    def slopes(self, x: Array, blur_px: float, every: int = 1) -> Array:
        """Derivatives of `errors` ``[n, 6]``, by central differences."""
        columns = []
        for i, step in enumerate(STEP):
            ahead, behind = x.copy(), x.copy()
            ahead[i], behind[i] = min(x[i] + step, BOUND[i]), max(x[i] - step, -BOUND[i])
            change = self.errors(ahead, blur_px, every) - self.errors(behind, blur_px, every)
            columns.append(change / (ahead[i] - behind[i]))
        return np.stack(columns, axis=1)

    def groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """For each number of `errors`, the number of its image, and that of its tile, which is one of all images."""
        by_image, by_tile = [], []
        for number, image in enumerate(self.recorded[FINE_PX]):
            height, width = image.shape[:2]
            rows, columns = (np.arange(size) * TILES_N // size for size in (height, width))
            tiles = np.repeat(rows[:, None] * TILES_N + columns[None], 3)
            by_tile.append(tiles)
            by_image.append(np.full(tiles.size, number))
        return np.concatenate(by_image), np.concatenate(by_tile)

    def _picture(self, view: View, times: int) -> npt.NDArray[np.uint8]:
        def draw(camera: str, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
            large = self._renderer.image(view.qpos, camera, times * width_px, times * height_px)
            return np.asarray(Image.fromarray(large).reduce(times))

        return drawn_image(draw, view.field)

    def close(self) -> None:
        self._renderer.close()


def _fit(pictures: _Pictures) -> CameraFit:
    recorded = np.concatenate([image.ravel() for image in pictures.recorded[FINE_PX]])
    contrast = float(recorded.std())
    if not contrast >= LEAST_CONTRAST:
        raise Unclear(
            f"the images are flat: they vary by {contrast:.1f} grey levels, {LEAST_CONTRAST:g} are needed; look "
            "whether the lens is covered, or the light is off or too strong"
        )
    before = pictures.errors(np.zeros(6), FINE_PX)
    x = np.zeros(6)
    for blur_px in COARSE_PX:
        x = least_squares(
            pictures.errors,
            x,
            jac=pictures.slopes,
            bounds=(-BOUND, BOUND),
            x_scale=STEP,
            loss="soft_l1",
            f_scale=_noise(pictures.errors(x, blur_px, COARSE_EVERY)),
            xtol=1e-2,
            ftol=1e-2,
            max_nfev=8,
            args=(blur_px, COARSE_EVERY),
        ).x
    after = pictures.errors(x, FINE_PX)
    explained = 1.0 - float(after @ after) / float(recorded @ recorded)
    if not explained >= LEAST_EXPLAINED:
        raise Unclear(
            f"the images do not look like what the simulated cell draws: it explains {100 * max(explained, 0.0):.0f} % "
            f"of how they vary, {100 * LEAST_EXPLAINED:.0f} are needed; measure the pose by `inril calibrate hand-eye`"
        )
    x, after, errors = _fine(pictures, x)
    scale = _noise(after)
    inside = (np.abs(x) <= 0.98 * BOUND).all()
    if not inside or not _cost(after, scale) <= 1.01 * _cost(before, scale):
        raise Unclear(
            f"no pose within {1000 * BOUND[0]:.0f} mm and {BOUND[3]:g} rad of the model's fits better than all around "
            "it; measure the pose by `inril calibrate hand-eye`"
        )
    if not (errors <= LARGEST_ERROR).all():  # true for NaN too
        worst = int(np.argmax(errors / LARGEST_ERROR))
        what, unit = ("offset", "mm") if worst < 3 else ("rotation", "mrad")
        raise Unclear(
            f"the images do not tell the {what} in {'xyz'[worst % 3]}: its standard error is "
            f"{1000 * errors[worst]:.0f} {unit}, at most {1000 * LARGEST_ERROR[worst]:.0f} are taken; record images in "
            "which more is seen, from more poses of the arm"
        )
    return CameraFit(_offset(x), _offset(errors), _rms(before), _rms(after), pictures.count)


def _fine(pictures: _Pictures, x: Array) -> tuple[Array, Array, Array]:
    """From nearby the pose, the errors of the images there, and the pose's standard errors.

    The cost of drawn images has many small steps, because edges go from pixel to pixel, and least squares that must
    descend stop at the first. So the zero of its smoothed slope is sought: Gauss-Newton steps with derivatives over
    half a pixel, unconditionally. The weights of one step are those of the errors before it, so each step leaves about
    a third of the distance. The last one is made from several places around the pose, and the mean of where they lead
    counts.

    The standard errors are those of a robust estimate, whose errors hang together within groups (sandwich, as in
    `identify`): within an image (its state of the cell is a little wrong), or within a part of all images (the cell
    draws it otherwise). The larger of both counts. Edges that go from pixel to pixel err alike in all images and tiles:
    for these count, besides, how far the last steps lead apart, and what the pose moves by when the cell is drawn twice
    as large.

    Raises:
        Unclear: a direction cannot be told.
    """
    jacobian = pictures.slopes(x, FINE_PX) * STEP
    errors = pictures.errors(x, FINE_PX)
    for _ in range(FINE_STEPS_N):
        weighted = jacobian * _weights(errors)
        normal = jacobian.T @ weighted
        if not np.linalg.cond(normal) < LARGEST_CONDITION:
            raise Unclear(
                "the images look the same when the camera moves in some direction, so no pose can be told; record "
                "images in which more is seen, from more poses of the arm"
            )
        x = np.clip(x - STEP * np.linalg.solve(normal, weighted.T @ errors), -BOUND, BOUND)
        errors = pictures.errors(x, FINE_PX)
    weighted = jacobian * _weights(errors)
    # edges stand otherwise in the pixels at each place around, and lead elsewhere
    around = x + STEP * _PLACES
    led = around - [STEP * np.linalg.solve(normal, weighted.T @ pictures.errors(p, FINE_PX)) for p in around]
    x, apart = np.clip(led.mean(axis=0), -BOUND, BOUND), led.std(axis=0, ddof=1) / np.sqrt(len(led))
    errors = pictures.errors(x, FINE_PX)
    weighted = jacobian * _weights(errors)
    # how the weighted errors change with the pose: the larger ones less than their weights, which fall meanwhile
    changes = jacobian * _weights(errors) ** 3
    bread, variances = np.linalg.inv(jacobian.T @ changes), []
    for groups in pictures.groups():
        scores = np.stack([np.bincount(groups, column * errors) for column in weighted.T], axis=1)
        clusters_n = len(np.unique(groups))
        variances.append(np.diag(bread @ scores.T @ scores @ bread) * clusters_n / (clusters_n - 1))
    finer = bread @ weighted.T @ (pictures.errors(x, FINE_PX, times=2) - errors)
    return x, errors, np.sqrt((np.max(variances, axis=0) + finer**2) * STEP**2 + apart**2)


def _views(contract: Contract, recordings: Sequence[Episode], replayed: Sequence[Array]) -> dict[str, list[View]]:
    """Images by camera, with the state of the cell: the recorded one, or else the replayed one."""
    found: dict[str, list[View]] = defaultdict(list)
    for episode, again in zip(recordings, replayed, strict=True):
        states = again if episode.qpos is None else episode.qpos
        for image in contract.images:
            known = found[image.camera] if len(episode.images.get(image.name, ())) else []
            steps = episode.image_steps.get(image.name, np.zeros(0, np.int32))
            for step, pixels in zip(steps.tolist(), episode.images.get(image.name, ()), strict=True):
                if step < len(states) and np.isfinite(states[step]).all():
                    known.append(View(image, states[step], pixels))
    return found


def _shrunk(image: npt.NDArray[np.uint8]) -> Array:
    height, width = image.shape[:2]
    parts = -(-max(height, width) // LARGEST_PX)
    return np.asarray(Image.fromarray(image).reduce(parts) if parts > 1 else image, np.float64)


def _blurred(image: Array, blur_px: float) -> Array:
    return np.asarray(gaussian_filter(image, (blur_px, blur_px, 0.0), mode="nearest"))


def _centred(image: Array, seen: npt.NDArray[np.bool_]) -> Array:
    """Less each channel's mean over what is seen, and 0 elsewhere."""
    mean = (image * seen).sum(axis=(0, 1)) / np.maximum(seen.sum(axis=(0, 1)), 1)
    return np.asarray((image - mean) * seen)


def _noise(errors: Array) -> float:
    """Robust standard deviation of those that are seen, grey levels."""
    seen = errors[errors != 0.0]
    return max(LEAST_NOISE, 1.4826 * float(np.median(np.abs(seen))) if seen.size else 0.0)


def _weights(errors: Array) -> Array:
    """Of each error ``[n, 1]``, in (0, 1]: that of soft L1."""
    return np.asarray(1.0 / np.sqrt(1.0 + (errors / _noise(errors)) ** 2))[:, None]


def _cost(errors: Array, scale: float) -> float:
    return float(np.sum(np.sqrt(1.0 + (errors / scale) ** 2) - 1.0))


def _rms(errors: Array) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _offset(x: Array) -> CameraOffset:
    a, b, c, d, e, f = x.tolist()
    return CameraOffset((a, b, c), (d, e, f))
