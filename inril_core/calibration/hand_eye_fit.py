"""The poses that agree on one hand-eye calibration, and the joint refinement over all of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from inril_core.calibration import hand_eye_closed, rigid
from inril_core.calibration.camera import BoardView, Camera, board_view

SUBSETS_MAX = 1500
"""Sets of three poses that are tried; up to 21 poses these are all sets there are."""
_AGREEING = 0.6
"""Part of the poses by which a set is scored: two in five may be wrong."""
_CORNERS = 75.0
"""Percentile of a pose's corner distances that is its error: a quarter of its corners may be wrong."""
_RAYLEIGH_75 = 1.665
"""That percentile of the distance, where both coordinates are normal with deviation 1."""
_FAR = 3.5
"""A pose is an outlier if its error is so many times the median of those that agree. Six numbers of a pose's own error
(arm, time, corners) make its error vary: for chi with 6 degrees of freedom 3.5 medians are passed once in 10⁷."""
_HYPOTHESES = 5
_SCORED_CORNERS = 20
_ROUNDS_MAX = 8
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Problem:
    """``A Y = X C`` with C seen by a camera."""

    A: np.ndarray
    """float64[N, 4, 4], see `HandEyeData.A`."""
    corners: np.ndarray
    """float64[N, K, 2]."""
    board_points: np.ndarray
    """float64[K, 3]."""
    camera: Camera
    views: tuple[BoardView | None, ...] = field(default=())
    """The board's pose in each image alone."""

    @classmethod
    def of(cls, A: np.ndarray, corners: np.ndarray, board_points: np.ndarray, camera: Camera) -> Problem:
        """With its views solved."""
        views = tuple(board_view(camera, board_points, seen) for seen in corners)
        return cls(A, corners, board_points, camera, views)

    @property
    def view_residual_px(self) -> float:
        """Median over the images of the residual of the board alone: what the corners' noise does."""
        found = [view.residual_px if view else math.inf for view in self.views]
        return float(np.median(found))

    @property
    def noise_px(self) -> float:
        """Deviation of one corner coordinate, from the images alone."""
        count = len(self.board_points)
        # a view fits 6 numbers to 2 K coordinates
        return self.view_residual_px / math.sqrt(2.0) * math.sqrt(2 * count / max(2 * count - 6, 1))

    def take(self, chosen: np.ndarray) -> Problem:
        """The same with some of the poses."""
        views = tuple(self.views[i] for i in chosen)
        return Problem(self.A[chosen], self.corners[chosen], self.board_points, self.camera, views)


@dataclass(frozen=True)
class Fit:
    """What fits some poses best."""

    X: np.ndarray
    Y: np.ndarray
    scale: float
    """Factor of the board's size; 1 unless it was free."""
    focal: float
    """Factor of the focal lengths; 1 unless it was free."""
    cost: float
    """Half the sum of the robust loss."""
    jacobian: np.ndarray
    """float64[M, P] of the residuals; P: steps of X and Y in their own frames (rotation vector, then metres), then the
    logarithm of what was free."""
    residuals: np.ndarray
    """float64[M], M = N K 2; pixels."""
    weights: np.ndarray
    """float64[M]: what the robust loss leaves of each."""

    def covariance(self, poses: int) -> np.ndarray:
        """float64[P, P] of the parameters, by leaving out one pose at a time (jackknife, Efron 1982, one Newton step).

        Unlike the inverse Hessian it sees errors that all corners of an image share: the arm's, and of time. It is
        never less than what the corners' own noise gives.
        """
        weighted = self.jacobian * self.weights[:, None]
        H = weighted.T @ self.jacobian
        variance = float(np.sum(self.weights * self.residuals**2)) / max(len(self.residuals) - len(H), 1)
        by_noise = variance * np.linalg.pinv(H, rcond=1e-14)
        J, W = self.jacobian.reshape(poses, -1, len(H)), weighted.reshape(poses, -1, len(H))
        r = self.residuals.reshape(poses, -1)
        steps = np.stack([np.linalg.pinv(H - W[i].T @ J[i], rcond=1e-14) @ (W[i].T @ r[i]) for i in range(poses)])
        steps -= steps.mean(axis=0)
        by_pose = (poses - 1) / poses * steps.T @ steps
        low = np.diag(by_noise) > np.diag(by_pose)
        grow = np.where(low, np.sqrt(np.diag(by_noise) / np.maximum(np.diag(by_pose), 1e-300)), 1.0)
        return np.asarray(by_noise if low.all() else by_pose * np.outer(grow, grow))


@dataclass(frozen=True)
class Consensus:
    """The largest set of poses that agree."""

    fit: Fit
    inliers: np.ndarray
    """int64[n], ascending."""
    errors_px: np.ndarray
    """float64[N]: error of every pose under the fit (75th percentile of its corners); infinite behind the camera."""
    limit_px: float
    """Errors above it are outliers."""

    @property
    def typical_px(self) -> float:
        """Median error of the poses that agree."""
        return float(np.median(self.errors_px[self.inliers]))


def predicted(problem: Problem, X: np.ndarray, Y: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Board points in the camera's frame, float64[N, K, 3]."""
    C = rigid.inverse(X) @ problem.A @ Y
    return rigid.apply(C, problem.board_points * scale)


def pose_errors_px(
    problem: Problem, X: np.ndarray, Y: np.ndarray, scale: float = 1.0, focal: float = 1.0
) -> np.ndarray:
    """float64[N], see `Consensus.errors_px`."""
    seen = predicted(problem, X, Y, scale)
    behind = seen[..., 2].min(axis=1) <= 1e-6
    seen[behind] = [0.0, 0.0, 1.0]
    camera = problem.camera if focal == 1.0 else problem.camera.with_focal(focal)
    distance = np.linalg.norm(camera.project(seen) - problem.corners, axis=-1)
    errors = np.percentile(distance, _CORNERS, axis=1)
    errors[behind | ~np.isfinite(errors)] = np.inf
    return np.asarray(errors)


def _score(problem: Problem, rays: np.ndarray, X: np.ndarray, Y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """For each hypothesis the error (in units of focal length) that `_AGREEING` of the poses stay below."""
    count, wanted = len(problem.A), math.ceil(_AGREEING * len(problem.A)) - 1
    out = np.full(len(X), np.inf)
    step = max(1, _CHUNK // max(rays.size, 1))
    for start in range(0, len(X), step):
        some = slice(start, start + step)
        C = rigid.inverse(X[some])[:, None] @ problem.A[None] @ Y[some][:, None]
        points = problem.board_points[None] * scale[some][:, None, None]
        seen = np.einsum("hnij,hkj->hnki", C[..., :3, :3], points) + C[..., None, :3, 3]
        depth = seen[..., 2]
        behind = depth.min(axis=2) <= 1e-6
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            distance = np.linalg.norm(seen[..., :2] / depth[..., None] - rays[None], axis=-1)
        errors = np.partition(distance, int(_CORNERS / 100 * distance.shape[2]), axis=2)[
            ..., int(_CORNERS / 100 * distance.shape[2])
        ]
        errors[behind | ~np.isfinite(errors)] = np.inf
        out[some] = np.partition(errors, min(wanted, count - 1), axis=1)[:, min(wanted, count - 1)]
    return out


def _subsets(usable: np.ndarray) -> np.ndarray:
    """Index triples, int64[H, 3]: all of them, or `SUBSETS_MAX` at random from a fixed seed."""
    if math.comb(len(usable), 3) <= SUBSETS_MAX:
        return usable[np.array(list(itertools.combinations(range(len(usable)), 3)))]
    draw = np.random.default_rng(0).random((SUBSETS_MAX, len(usable)))
    return np.asarray(usable[np.argpartition(draw, 3, axis=1)[:, :3]])


def agree(problem: Problem, free_scale: bool = False) -> Consensus | None:
    """The poses that agree on one X and Y; None where not even three have a view.

    Every set of three poses (or a large sample) is solved in closed form and scored by the reprojection error that 60 %
    of all poses stay below (least quantile of squares, Rousseeuw 1984). The best are refined on the poses that agree
    with them, until these stay the same.
    """
    usable = np.flatnonzero([view is not None for view in problem.views])
    if len(usable) < 3:
        return None
    C = np.array([view.T_camera_board if view else np.eye(4) for view in problem.views])
    chosen = _subsets(usable)
    X, Y, scale = hand_eye_closed.shah(problem.A[chosen], C[chosen], free_scale)
    sound = np.isfinite(X).all(axis=(1, 2)) & np.isfinite(Y).all(axis=(1, 2)) & (scale > 1e-6)
    X, Y, scale = X[sound], Y[sound], scale[sound]
    if not len(X):
        return None
    few = np.unique(np.linspace(0, len(problem.board_points) - 1, _SCORED_CORNERS).round().astype(int))
    rough = Problem(problem.A, problem.corners[:, few], problem.board_points[few], problem.camera, problem.views)
    scores = _score(rough, problem.camera.rays(rough.corners), X, Y, scale)
    found: list[Consensus] = []
    for i in np.argsort(scores)[:_HYPOTHESES]:
        if not np.isfinite(scores[i]):
            break
        nearest = np.argsort(pose_errors_px(rough, X[i], Y[i], float(scale[i])))[:3]
        if any(np.isin(nearest, other.inliers).all() for other in found):
            continue  # it would grow to the same
        grown = _grow(rough, C, X[i], Y[i], float(scale[i]), free_scale, _ROUNDS_MAX)
        found += [grown] if grown else []
    # the most poses, then the least error: a good set that lost poses must not win by its small error
    best = max(found, key=lambda f: (len(f.inliers), -f.typical_px), default=None)
    if best is None or len(rough.board_points) == len(problem.board_points):
        return best
    start = best.inliers
    return _grow(problem, C, best.fit.X, best.fit.Y, best.fit.scale, free_scale, _ROUNDS_MAX, start) or best


def _grow(
    problem: Problem,
    C: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    scale: float,
    free_scale: bool,
    rounds: int,
    start: np.ndarray | None = None,
) -> Consensus | None:
    """Refine on the poses that agree, until these stay the same."""
    count = len(problem.A)
    least = max(3, math.ceil(_AGREEING * count))
    errors = pose_errors_px(problem, X, Y, scale)
    inliers = np.sort(np.argsort(errors)[:least]) if start is None else start
    if not np.isfinite(errors[inliers]).all():
        return None
    seen_before: set[bytes] = set()
    for _ in range(rounds):
        some = problem.take(inliers)
        X, Y, scale = _best_start(some, C[inliers], X, Y, scale, free_scale)
        noise = max(problem.noise_px, float(np.median(errors[inliers])) / _RAYLEIGH_75)
        result = refine(some, X, Y, scale, noise_px=noise, free=("scale",) if free_scale else ())
        if result is None:
            return None
        X, Y, scale = result.X, result.Y, result.scale
        errors = pose_errors_px(problem, X, Y, scale)
        typical = float(np.median(np.sort(errors)[:least]))
        # the median of the better part is below that of all that agree: both may be taken, the larger counts
        agreeing = errors[inliers][np.isfinite(errors[inliers])]
        typical = max(typical, float(np.median(agreeing)) if len(agreeing) else typical)
        limit = _FAR * max(typical, _RAYLEIGH_75 * problem.noise_px * 0.5)
        now = np.flatnonzero(errors <= limit)
        if len(now) < 3:
            return None
        if now.tobytes() in seen_before:
            return Consensus(result, inliers, errors, limit) if np.array_equal(now, inliers) else None
        if np.array_equal(now, inliers):
            return Consensus(result, now, errors, limit)
        seen_before.add(now.tobytes())
        inliers = now
    return None


def _best_start(
    problem: Problem, C: np.ndarray, X: np.ndarray, Y: np.ndarray, scale: float, free_scale: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of the closed form over these poses and the start given, the one with the smaller error."""
    known = np.array([view is not None for view in problem.views])
    starts = [(X, Y, scale)]
    if known.sum() >= 3:
        more = hand_eye_closed.shah(problem.A[known][None], C[known][None], free_scale)
        starts.append((more[0][0], more[1][0], float(more[2][0])))
    usable = [s for s in starts if np.isfinite(s[0]).all() and np.isfinite(s[1]).all() and s[2] > 1e-6]
    return min(usable, key=lambda s: float(np.median(pose_errors_px(problem, *s))))


def refine(
    problem: Problem,
    X: np.ndarray,
    Y: np.ndarray,
    scale: float = 1.0,
    noise_px: float = 1.0,
    free: tuple[str, ...] = (),
) -> Fit | None:
    """X and Y (and what is ``free``: ``scale``, ``focal``) that reproject the corners of all poses best.

    The loss is soft-L1 with its knee at three times ``noise_px``. None: it leads to a board behind the camera.
    """
    size = 12 + len(free)
    points, count = problem.board_points, len(problem.A)

    def unpack(step: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
        extra = dict(zip(free, np.exp(step[12:]), strict=True))
        s, f = scale * float(extra.get("scale", 1.0)), float(extra.get("focal", 1.0))
        return rigid.moved(X, step[:6]), rigid.moved(Y, step[6:12]), s, f

    def seen_by(x: np.ndarray, y: np.ndarray, s: float) -> np.ndarray:
        seen = predicted(problem, x, y, s)
        # a trial step may put a point behind the camera, where the projection would return
        seen[..., 2] = np.maximum(seen[..., 2], 1e-3 * s)
        return seen

    def residuals(step: np.ndarray) -> np.ndarray:
        x, y, s, f = unpack(step)
        camera = problem.camera if f == 1.0 else problem.camera.with_focal(f)
        return np.asarray((camera.project(seen_by(x, y, s)) - problem.corners).ravel())

    def jacobian(step: np.ndarray) -> np.ndarray:
        x, y, s, f = unpack(step)
        seen = seen_by(x, y, s)
        camera = problem.camera if f == 1.0 else problem.camera.with_focal(f)
        by_point, by_focal = camera.derivatives(seen)
        R = (rigid.inverse(x) @ problem.A @ y)[:, None, :3, :3]
        turn_x, turn_y = (Rotation.from_rotvec(step[i : i + 3]).as_matrix() for i in (0, 6))
        moved = np.empty((count, len(points), 3, size))
        # x moves by Exp(step) on its right, so a seen point p moves by Exp(step)⁻¹
        moved[..., 0:3] = rigid.cross_matrix(seen) @ rigid.right_jacobian(step[:3])
        moved[..., 3:6] = -turn_x.T
        moved[..., 6:9] = -R @ rigid.cross_matrix(points * s) @ rigid.right_jacobian(step[6:9])
        moved[..., 9:12] = R @ turn_y.T
        out = np.zeros((count, len(points), 2, size))
        for i, name in enumerate(free, 12):
            if name == "scale":
                moved[..., i] = (R @ (points * s)[..., None])[..., 0]
        out[..., :12] = by_point @ moved[..., :12]
        for i, name in enumerate(free, 12):
            out[..., i] = by_focal if name == "focal" else (by_point @ moved[..., i, None])[..., 0]
        return out.reshape(-1, size)

    knee = 3.0 * max(noise_px, 1e-3)
    try:
        found = least_squares(
            residuals, np.zeros(size), jac=jacobian, loss="soft_l1", f_scale=knee, x_scale="jac", max_nfev=40
        )
    except (ValueError, np.linalg.LinAlgError):
        return None
    x, y, s, f = unpack(found.x)
    if predicted(problem, x, y, s)[..., 2].min() <= 0.0:
        return None
    raw = residuals(found.x)
    return Fit(x, y, s, f, float(found.cost), jacobian(found.x), raw, 1.0 / np.sqrt(1.0 + (raw / knee) ** 2))
