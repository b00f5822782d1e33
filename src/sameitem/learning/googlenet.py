"""GoogLeNet V1, the category model of the article, trained from random weights.

    python -m sameitem.learning.googlenet --data FOLDER --out FOLDER --minutes M

FOLDER of --data holds the real photographs (`manifest.csv`); only rows that may train shipped weights are trained on,
and of those a part is held out to watch. FOLDER of --out gets the decoded pictures, checkpoints, `curve.csv` and in the
end `googlenet.npz`; the same command goes on after a stop, and ends with the weights of a run that was never stopped.
The number of steps is settled by the processor time of a few trial steps, so that they fit into the minutes; most of
them see the crops at half their side, four times as many in the time, the last ones as the article has them.
"""

import argparse
import csv
import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sameitem.catalog.taxonomy import OTHERS, load_taxonomy
from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError, InputError, NotFoundError, ShapeError
from sameitem.core.records import Pixels
from sameitem.features.preprocess import Fit, square_pixels
from sameitem.learning.category import held_out
from sameitem.learning.real_sets import RealSets, Row

SIDE_PX, CROP_PX = 256, 227
WEIGHTS = "googlenet.npz"
CURVE = "curve.csv"

_AUXILIARY_SHARE = 0.3  # of an auxiliary classifier's loss
_CHECKPOINT, _RUN, _PICTURES = "checkpoint.npz", "run.json", "pictures.npy"
_TIMED = 4  # trial steps of each kind
_COARSE_TIME = 0.6  # share of the minutes that goes to crops of half the side
_WARM_UP = 0.03  # share of the work in which the rate rises
_COLUMNS = ("step", "photos", "seconds", "rate", "loss", "accuracy", "held_out_loss", "held_out_accuracy")
_log = logging.getLogger("sameitem.learning.googlenet")  # not __name__, which is __main__ here

Places = NDArray[np.int64]


class Inception(nn.Module):
    """Four looks at the same maps, side by side: 1x1, 3x3 and 5x5 convolutions, and a pooling."""

    def __init__(self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> None:
        """Set the widths: of the 1x1, of (reduction, convolution) of the 3x3 and 5x5, and after the pooling."""
        super().__init__()
        self.one = _conv(channels, one, 1)
        self.three = nn.Sequential(_conv(channels, three[0], 1), _conv(*three, 3))
        self.five = nn.Sequential(_conv(channels, five[0], 1), _conv(*five, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(channels, pooled, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the same height and width."""
        return torch.cat([self.one(maps), self.three(maps), self.five(maps), self.pool(maps)], 1)


class Auxiliary(nn.Module):
    """A small classifier half-way up, which hands the lower layers a gradient while training."""

    def __init__(self, channels: int, categories: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),  # the paper's 5x5 at stride 3, at any size of the maps
            _conv(channels, 128, 1),
            nn.Flatten(),
            nn.Linear(128 * 4 * 4, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.7),
            nn.Linear(1024, categories),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Turn (n, channels, height, width) maps into (n, categories) logits."""
        logits: Tensor = self.layers(maps)
        return logits


class GoogLeNet(nn.Module):
    """GoogLeNet V1: two convolutions, nine inception blocks, the mean over the last maps, one linear layer.

    Batch norm stands after each convolution, in place of the paper's two local response normalisations: it makes
    training from random weights possible in hours.

    Source: Szegedy et al., Going Deeper with Convolutions, CVPR 2015, table 1 and section 5.
    """

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 64, 7, stride=2),
            _half(),
            _conv(64, 64, 1),
            _conv(64, 192, 3),
            _half(),
            Inception(192, 64, (96, 128), (16, 32), 32),  # 3a
            Inception(256, 128, (128, 192), (32, 96), 64),
            _half(),
            Inception(480, 192, (96, 208), (16, 48), 64),  # 4a
        )
        self.middle = nn.Sequential(
            Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64),
            Inception(512, 112, (144, 288), (32, 64), 64),  # 4d
        )
        self.top = nn.Sequential(
            Inception(528, 256, (160, 320), (32, 128), 128),
            _half(),
            Inception(832, 256, (160, 320), (32, 128), 128),  # 5a
            Inception(832, 384, (192, 384), (48, 128), 128),
        )
        self.auxiliaries = nn.ModuleList([Auxiliary(512, categories), Auxiliary(528, categories)])
        self.classify = nn.Sequential(nn.Dropout(0.4), nn.Linear(1024, categories))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """Turn photos (n, 3, side, side), RGB -1..1, into logits (n, categories), in training and two auxiliary."""
        low = self.stem(photos)
        middle = self.middle(low)
        logits = self.classify(self.top(middle).mean((2, 3)))
        if not self.training:
            return (logits,)
        return (logits, self.auxiliaries[0](low), self.auxiliaries[1](middle))


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Labelled pictures, decoded; row i of both describes one."""

    pixels: NDArray[np.uint8]  # (pictures, 256, 256, 3), may be a memory map
    labels: NDArray[np.int64]  # (pictures,)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[1:] != (SIDE_PX, SIDE_PX, 3):
            raise ShapeError(f"need pictures (n, {SIDE_PX}, {SIDE_PX}, 3), got {self.pixels.shape}")
        if self.labels.shape != self.pixels.shape[:1] or len(self.labels) == 0:
            raise ShapeError(f"need one label per picture, at least one, got {self.labels.shape}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides the weights, beside the pictures: everything else may change between two stops."""

    steps: int
    coarse: int = 0  # the first of them, with crops of half the side
    batch: int = 32
    rate: float = 0.05  # highest learning rate
    momentum: float = 0.9
    decay: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    number: int  # from 1
    rate: float
    loss: float  # of the main classifier
    accuracy: float  # of the batch, before the step


def random_crops(pixels: NDArray[np.uint8], generator: np.random.Generator) -> Tensor:
    """Cut a random 227 x 227 window out of each picture (n, 256, 256, 3), mirror every second: (n, 3, 227, 227)."""
    windows = np.empty((len(pixels), CROP_PX, CROP_PX, 3), np.uint8)
    for window, picture in zip(windows, pixels, strict=True):
        top, left = generator.integers(0, SIDE_PX - CROP_PX + 1, 2)
        cut = picture[top : top + CROP_PX, left : left + CROP_PX]
        window[:] = cut[:, ::-1] if generator.random() < 0.5 else cut
    return _input(windows)


def centre_crops(pixels: NDArray[np.uint8]) -> Tensor:
    """Cut the middle 227 x 227 window out of each picture (n, 256, 256, 3): (n, 3, 227, 227)."""
    edge = (SIDE_PX - CROP_PX) // 2
    return _input(pixels[:, edge : edge + CROP_PX, edge : edge + CROP_PX])


class Training:
    """A network on its way through a plan; each step depends on the plan, its number and the state before it alone."""

    def __init__(self, categories: int, plan: Plan) -> None:
        if plan.steps < 1 or not 0 <= plan.coarse <= plan.steps or plan.batch < 2:
            raise InputError(f"need at least 1 step, no more coarse ones, batches of at least 2, got {plan}")
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.done = 0
        self.recent: list[tuple[float, float]] = []  # (loss, accuracy) of the steps that no curve has yet
        self.network = GoogLeNet(categories).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), plan.rate, plan.momentum, weight_decay=plan.decay, nesterov=True
        )

    def step(self, pictures: Pictures) -> Step:
        """Take the next step."""
        plan = self.plan
        generator = np.random.default_rng([plan.seed, self.done])
        torch.manual_seed(int(generator.integers(2**31)))  # of the dropout
        places = self._batch(len(pictures.labels))
        photos = random_crops(pictures.pixels[places], generator)
        truth = torch.from_numpy(pictures.labels[places])
        rate = rate_at(self.done, plan)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        outputs = self.network(_halved(photos) if self.is_coarse else photos)
        losses = [functional.cross_entropy(logits, truth) for logits in outputs]
        self._optimizer.zero_grad()
        (losses[0] + _AUXILIARY_SHARE * sum(losses[1:])).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.done += 1
        right = (outputs[0].argmax(1) == truth).float().mean()
        self.recent.append((float(losses[0].detach()), float(right)))
        return Step(self.done, rate, *self.recent[-1])

    @property
    def is_coarse(self) -> bool:
        """Whether the next step sees crops of half the side."""
        return self.done < self.plan.coarse

    def _batch(self, pictures: int) -> Places:
        """Draw the step's pictures: every epoch is a permutation of its own, read through in order."""
        first = self.done * self.plan.batch
        places = np.arange(first, first + self.plan.batch)
        orders = {
            epoch: np.random.default_rng([self.plan.seed, epoch, 1]).permutation(pictures)
            for epoch in np.unique(places // pictures).tolist()
        }
        return np.array([orders[place // pictures][place % pictures] for place in places.tolist()])

    def save(self, file: Path) -> None:
        """Write everything that the next step depends on, at once: a kill leaves the old file or the new one."""
        arrays = {f"network.{name}": tensor.numpy() for name, tensor in self.network.state_dict().items()}
        for number, parameter in enumerate(self.network.parameters()):
            if parameter in self._optimizer.state:
                arrays[f"momentum.{number}"] = self._optimizer.state[parameter]["momentum_buffer"].numpy()
        arrays["plan"] = np.array(json.dumps(asdict(self.plan)))
        arrays["done"] = np.array(self.done)
        arrays["recent"] = np.array(self.recent).reshape(-1, 2)
        _write_arrays(file, arrays)

    def load(self, file: Path) -> None:
        """Go on from a saved state.

        Raises:
            ConflictError: it was saved under another plan.
        """
        with np.load(file, allow_pickle=False) as arrays:
            if json.loads(str(arrays["plan"])) != asdict(self.plan):
                raise ConflictError(
                    f"{file.name} belongs to the plan {arrays['plan']}, got {asdict(self.plan)}; take another folder"
                )
            _load_network(self.network, arrays)
            for number, parameter in enumerate(self.network.parameters()):
                if f"momentum.{number}" in arrays:
                    momentum = torch.empty_like(parameter)
                    momentum.copy_(torch.from_numpy(arrays[f"momentum.{number}"]))
                    self._optimizer.state[parameter]["momentum_buffer"] = momentum
            self.done = int(arrays["done"])
            self.recent = [(float(loss), float(accuracy)) for loss, accuracy in arrays["recent"]]


def rate_at(step: int, plan: Plan) -> float:
    """Return the learning rate of a step from 0: rising in a line, then falling along half a cosine to 0.

    It follows the work done, of which a coarse step is a quarter.
    """
    work, whole = (min(steps, plan.coarse) / 4 + max(0, steps - plan.coarse) for steps in (step, plan.steps))
    rising = _WARM_UP * whole
    if work < rising:
        return plan.rate * max(work / rising, 0.01)
    return plan.rate * (1 + math.cos(math.pi * (work - rising) / (whole - rising))) / 2


def predict(network: GoogLeNet, pictures: Iterable[Pixels]) -> NDArray[np.float64]:
    """Return the logits (pictures, categories) of pictures of any size: stretched to 256, the middle 227, float32."""
    network.eval()
    rows: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for pixels in pictures:
            square = square_pixels(pixels, side_px=SIDE_PX, fit=Fit.STRETCH, fill=0)
            rows.append(network(centre_crops(square[None]))[0].numpy().astype(np.float64))
    return np.concatenate(rows)


def measure(network: GoogLeNet, pictures: Pictures, *, coarse: bool = False, batch: int = 64) -> tuple[float, float]:
    """Return the mean loss and the accuracy on centre crops; coarse: of half the side."""
    network.eval()
    loss, right = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(pictures.labels), batch):
            truth = torch.from_numpy(pictures.labels[start : start + batch])
            photos = centre_crops(pictures.pixels[start : start + batch])
            (logits,) = network(_halved(photos) if coarse else photos)
            loss += float(functional.cross_entropy(logits, truth, reduction="sum"))
            right += int((logits.argmax(1) == truth).sum())
    return loss / len(pictures.labels), right / len(pictures.labels)


def train(
    pictures: Pictures,
    watched: Pictures,
    plan: Plan,
    folder: Path,
    *,
    names: Sequence[str],
    save_every: int = 200,
    watch_every: int = 250,
    stop_after: int | None = None,
    clock: Callable[[], float] = time.process_time,
) -> GoogLeNet | None:
    """Go through a plan, from the checkpoint in the folder where there is one, and write the finished network.

    Args:
        pictures: to learn from.
        watched: to measure on; nothing depends on it.
        plan: the same as that of the checkpoint.
        folder: gets `checkpoint.npz`, `curve.csv` and in the end `googlenet.npz`.
        names: of the categories, in the order of the labels.
        save_every: steps between two checkpoints.
        watch_every: steps between two rows of the curve.
        stop_after: take at most so many steps now.
        clock: seconds; of the processor, so that the curve is the same on a busy machine.

    Returns:
        The finished network, or None where `stop_after` came first.

    Raises:
        ConflictError: the checkpoint belongs to another plan.
    """
    training = Training(len(names), plan)
    checkpoint, curve = folder / _CHECKPOINT, folder / CURVE
    if checkpoint.exists():
        training.load(checkpoint)
    rows = _rows_until(curve, training.done)
    before, started = (float(rows[-1]["seconds"]) if rows else 0.0), clock()
    end = plan.steps if stop_after is None else min(plan.steps, training.done + stop_after)
    while training.done < end:
        step = training.step(pictures)
        done = training.done
        if done % watch_every == 0 or done == plan.steps:
            held_loss, held_accuracy = measure(training.network, watched, coarse=done <= plan.coarse)
            loss, accuracy = np.mean(training.recent, axis=0)
            row = {
                "step": done,
                "photos": done * plan.batch,
                "seconds": f"{before + clock() - started:.0f}",
                "rate": f"{step.rate:.5f}",
                "loss": f"{loss:.4f}",
                "accuracy": f"{accuracy:.4f}",
                "held_out_loss": f"{held_loss:.4f}",
                "held_out_accuracy": f"{held_accuracy:.4f}",
            }
            training.recent = []
            rows.append({name: str(cell) for name, cell in row.items()})
            _write_rows(curve, rows)
            _log.info("%s", ", ".join(f"{name} {cell}" for name, cell in row.items()))
        if done % save_every == 0 or done == end:
            training.save(checkpoint)
    if training.done < plan.steps:
        return None
    state = {f"network.{name}": tensor.numpy() for name, tensor in training.network.state_dict().items()}
    _write_arrays(folder / WEIGHTS, {**state, "names": np.array(list(names))})
    network: GoogLeNet = training.network
    return network


def load_googlenet(folder: Path) -> tuple[GoogLeNet, tuple[str, ...]]:
    """Load a finished network and the names of its categories.

    Raises:
        NotFoundError: none is in the folder.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise NotFoundError(f"no {WEIGHTS} in {folder}; let `python -m sameitem.learning.googlenet` finish")
    with np.load(file, allow_pickle=False) as arrays:
        names = tuple(str(name) for name in arrays["names"])
        network = GoogLeNet(len(names))
        _load_network(network, arrays)
    return network.eval(), names


def _conv(channels: int, width: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def _half() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _halved(photos: Tensor) -> Tensor:
    """Average 2 x 2 pixels of (n, 3, 227, 227) photos, the last row and column with themselves: (n, 3, 114, 114)."""
    return functional.avg_pool2d(photos, 2, ceil_mode=True, count_include_pad=False)


def _input(windows: NDArray[np.uint8]) -> Tensor:
    """Turn (n, height, width, 3) bytes into (n, 3, height, width) numbers -1..1, channels still last in memory."""
    return torch.from_numpy(np.ascontiguousarray(windows)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _load_network(network: GoogLeNet, arrays: "np.lib.npyio.NpzFile") -> None:
    network.load_state_dict({name: torch.from_numpy(arrays[f"network.{name}"]) for name in network.state_dict()})


def _write_arrays(file: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_whole(file, content.getvalue())


def _rows_until(curve: Path, step: int) -> list[dict[str, str]]:
    """Read the rows of the curve that lie before a checkpoint; what came after it will be written again."""
    if not curve.exists():
        return []
    with curve.open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if int(row["step"]) <= step]


def _write_rows(curve: Path, rows: Sequence[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(curve, text.getvalue().encode())


def _decoded(sets: RealSets, rows: Sequence[Row], file: Path) -> NDArray[np.uint8]:
    """Decode every picture once, stretched to 256 x 256, into a file that is mapped into memory."""
    if not file.exists():
        part = file.with_suffix(".part")
        pixels = np.lib.format.open_memmap(part, "w+", np.uint8, (len(rows), SIDE_PX, SIDE_PX, 3))
        for place, row in enumerate(rows):
            pixels[place] = square_pixels(sets.pixels(row), side_px=SIDE_PX, fit=Fit.STRETCH, fill=0)
        pixels.flush()
        del pixels
        part.rename(file)
    decoded: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    if len(decoded) != len(rows):
        raise ConflictError(f"{file.name} holds {len(decoded)} pictures, the manifest {len(rows)}; take another folder")
    return decoded


def _settled(folder: Path, pictures: Pictures, *, categories: int, minutes: float) -> Plan:
    """Return the run's plan: that of an earlier start, else as many steps as fit into the minutes."""
    file = folder / _RUN
    if file.exists():
        return Plan(**json.loads(file.read_bytes()))
    costs = []
    for coarse in (_TIMED, 0):
        trial = Training(categories, Plan(steps=_TIMED, coarse=coarse))
        trial.step(pictures)
        started = time.process_time()
        for _ in range(_TIMED - 1):
            trial.step(pictures)
        costs.append((time.process_time() - started) / (_TIMED - 1))
    shares = (_COARSE_TIME, 1 - _COARSE_TIME)
    coarse, fine = (max(1, int(60 * minutes * share / cost)) for share, cost in zip(shares, costs, strict=True))
    plan = Plan(steps=coarse + fine, coarse=coarse)
    speeds = " and ".join(f"{plan.batch / cost:.1f}" for cost in costs)
    _log.info("%s photos a second of processor time, coarse and fine: %d and %d steps", speeds, coarse, fine)
    write_whole(file, json.dumps(asdict(plan)).encode())
    return plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train GoogLeNet V1 on the 14 top categories.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the real photographs (manifest.csv)")
    parser.add_argument("--out", type=Path, required=True, help="decoded pictures, checkpoints, curve, weights")
    parser.add_argument("--minutes", type=float, required=True, help="of processor time; read on the first start only")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default 1)")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sameitem").setLevel(logging.INFO)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    sets = RealSets(options.data)
    names = tuple(top.id for top in load_taxonomy().top if top.id != OTHERS)
    usable = [row for row in sets.rows if row.trainable and row.top14]
    rows = sorted(usable, key=lambda row: held_out(row.group))
    pixels = _decoded(sets, rows, options.out / _PICTURES)
    labels = np.array([names.index(row.top14) for row in rows])
    count = sum(not held_out(row.group) for row in rows)
    learned, watched = Pictures(pixels[:count], labels[:count]), Pictures(pixels[count:], labels[count:])
    plan = _settled(options.out, learned, categories=len(names), minutes=options.minutes)
    train(learned, watched, plan, options.out, names=names)


if __name__ == "__main__":
    main()
