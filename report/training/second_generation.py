"""The trainings of the second generation: the classifier that reads grey, koala-plus and koala.

    python second_generation.py store STORE --photographs SHARED --slides kodachrome.csv
    python second_generation.py student STORE -o efficientnet_lite2_grey.safetensors …
    python second_generation.py decoder STORE -o koala-plus.safetensors …
    python second_generation.py validate STORE -o koala-plus.safetensors …
    python second_generation.py validate-student STORE -o efficientnet_lite2_grey.safetensors …
    python second_generation.py koala STORE --old FIRST -o koala.safetensors …

README.md beside it has the numbers of steps and the learning rates.

`koala prepare`, `adapt` and `train` do the same for photographs of one's own. This script differs
in three things: it draws from several collections in shares that suit them, it enlarges the small
photographs to the size at which koala-plus looks at one, and it keeps all of them in memory.
"""

import argparse
import csv
import io
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from koala_utils import film, lab, network, quantization, records
from koala_utils.backend import keras, tf
from koala_utils.embedding import EMBEDDING_SIZE, classifier_for, load_extractor, standardize
from koala_utils.evaluation import colorfulness
from koala_utils.losses import agreement, cross_entropy, distillation
from koala_utils.photos import is_nearly_grey
from koala_utils.training import best_dtype, logits_and_features
from koala_utils.weights import load_weights, save_weights

SIDE = 144  # pixels of the stored squares
LOOK = 240  # pixels at which the classifier behind koala-plus sees a photograph
BATCH = 32
# How often an epoch draws from a collection: many classes teach colours, many photographs detail.
SHARES = {
    "imagenette": 4000,
    "imagewoof": 1000,
    "scenes": 3000,
    "imagenet_sample": 2800,
    "flickr8k": 7267,
    "kodachrome": 1600,
    "tiny_imagenet": 10000,
}
# The photographs of Tiny ImageNet have 64 px, so nearly all of one is a window.
WINDOWS = {"tiny_imagenet": 0.9}
# Photographs that choose among trainings, at the size at which they are coloured.
VALIDATION = {
    "val-imagenette": slice(None, None, 4),
    "val-flickr8k": slice(None, None, 2),
    "kodachrome": slice(None),
    "scenes": slice(None, None, 2),
    "imagenet_sample": slice(None),
    "tiny_imagenet": slice(None, None, 5),
}


# ---------------------------------------------------------------- photographs


def store(shared, folder):
    """Collections of photographs -> one array of squares each, uint8 (N, SIDE, SIDE, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*SHARES, *(name for name in VALIDATION if name not in SHARES)]:
        side = SIDE if name in SHARES else LOOK
        squares, names = [], []
        for path, content in contents(shared, name):
            photo = Image.open(io.BytesIO(content)).convert("RGB")
            square = np.asarray(nearly_square(photo).resize((side, side), Image.LANCZOS))
            if not is_nearly_grey(square):
                squares.append(square)
                names.append(path)
        np.save(folder / f"{name}.npy", np.stack(squares))
        (folder / f"{name}.txt").write_text("\n".join(names), encoding="utf-8")


def contents(shared, name):
    if name == "kodachrome":
        for path in sorted((shared / "kodachrome" / "train").glob("*.jpg")):
            yield path.name, path.read_bytes()
        return
    tar = name if name.startswith("val-") else f"train-{name}"
    with tarfile.open(shared / f"{tar}.tar") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg", ".png")):
                yield member.name, archive.extractfile(member).read()


def nearly_square(photo):
    """Cut to an aspect of 5 : 4 at most; what is left is squeezed to a square."""
    width, height = photo.size
    across, down = min(width, int(1.25 * height)), min(height, int(1.25 * width))
    left, top = (width - across) // 2, (height - down) // 2
    return photo.crop((left, top, left + across, top + down))


def kept(name, folder, table):
    """Which squares of a collection train; the others choose among trainings: bool (N,).

    Every twelfth run of slides stays out, and every twentieth photograph of three others.
    """
    names = (folder / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    train = np.ones(len(names), bool)
    if name == "kodachrome":
        with table.open(newline="", encoding="utf-8") as lines:
            runs = {Path(row["file"]).name: int(row["run"]) for row in csv.DictReader(lines)}
        of_each = np.array([runs[file] for file in names])
        train = ~np.isin(of_each, sorted(set(of_each))[4::12])
    elif name in ("scenes", "imagenet_sample", "tiny_imagenet"):
        train[19::20] = False
    return train


def load(folder, table):
    """The squares that train, and the collection of each."""
    squares, collections = [], []
    for name in SHARES:
        train = kept(name, folder, table)
        squares.append(np.load(folder / f"{name}.npy")[train])
        collections += [name] * train.sum()
    return np.concatenate(squares), np.array(collections)


def load_validation(folder, table, names=tuple(VALIDATION)):
    """The squares of some parts of the validation, by name."""
    parts = {}
    for name in names:
        squares = np.load(folder / f"{name}.npy")
        if name in SHARES:
            squares = squares[~kept(name, folder, table)]
        parts[name] = squares[VALIDATION[name]]
    return parts


def draws(collections, seed):
    """Endless indices of photographs, each collection as often as `SHARES` says."""
    random = np.random.default_rng(seed)
    places = {name: np.flatnonzero(collections == name) for name in SHARES}
    while True:
        epoch = []
        for name, share in SHARES.items():
            rounds = -(-share // len(places[name]))
            epoch += np.concatenate([random.permutation(places[name]) for _ in range(rounds)])[
                :share
            ].tolist()
        yield from random.permutation(epoch)


def windows(squares, collections, extra, crop, part, seed, batch=BATCH):
    """Batches of random windows, mirrored or not, with each photograph's row of `extra`.

    Args:
        crop: side in pixels of the windows that come out.
        part: mean side of a window as a share of the photograph's, where `WINDOWS` has none.
    """
    random = np.random.default_rng(seed)

    def one():
        for i in draws(collections, seed):
            mean = WINDOWS.get(collections[i], part)
            side = round(SIDE * min(1, mean * np.exp(random.uniform(-0.3, 0.3))))
            top, left = random.integers(0, SIDE - side + 1, 2)
            window = squares[i, top : top + side, left : left + side]
            window = window[:, ::-1] if random.random() < 0.5 else window
            window = Image.fromarray(np.ascontiguousarray(window))
            yield np.asarray(window.resize((crop, crop), Image.BICUBIC)), extra[i]

    signature = (
        tf.TensorSpec((crop, crop, 3), tf.uint8),
        tf.TensorSpec(extra.shape[1:], extra.dtype),
    )
    data = tf.data.Dataset.from_generator(one, output_signature=signature).batch(
        batch, drop_remainder=True
    )
    return tf.data.Dataset.zip(data, tf.data.Dataset.counter()).prefetch(3)


def in_batches(function, squares, size):
    """A function of RGB in [0, 1], (n, size, size, 3), of all squares."""
    outputs = []
    for start in range(0, len(squares), BATCH):
        rgb = tf.cast(squares[start : start + BATCH], tf.float32) / 255
        outputs.append(function(at_size(rgb, size)).numpy().astype(np.float16))
    return np.concatenate(outputs)


# ---------------------------------------------------------------- trainings


def minimize(variables, loss_of, batches, steps, learning_rate, momentum, save, slow=()):
    """Adam with a warm-up and a cosine; gives `variables` their running average at the end.

    `save()` is called every 500 steps and at the end, while `variables` hold the average. The
    variables in `slow` are trained at a tenth of the learning rate.
    """
    warm = min(150, steps // 10)

    def adam(highest):
        rate = keras.optimizers.schedules.CosineDecay(
            highest / 10, steps - warm, 0.02, warmup_target=highest, warmup_steps=warm
        )
        return keras.optimizers.Adam(rate)

    shares = ((variables, 1), (slow, 0.1))
    groups = [(adam(share * learning_rate), group) for group, share in shares if group]
    for optimizer, group in groups:
        optimizer.build(group)
    variables = [*variables, *slow]
    averages = [tf.Variable(variable) for variable in variables]

    @tf.function(reduce_retracing=True)
    def step(*batch):
        with tf.GradientTape() as tape:
            loss = loss_of(*batch)
        gradients = tape.gradient(loss, [group for _, group in groups])
        for (optimizer, group), of_group in zip(groups, gradients, strict=True):
            optimizer.apply_gradients(zip(of_group, group, strict=True))
        return loss

    began, losses = time.perf_counter(), []
    for number, batch in enumerate(batches.take(steps), 1):
        losses.append(float(step(*batch)))
        keep = min(momentum, number / (number + 20))
        for average, variable in zip(averages, variables, strict=True):
            average.assign(keep * average + (1 - keep) * variable)
        if number % 50 == 0 or number == steps:
            minutes = (time.perf_counter() - began) / 60
            print(
                f"{number} of {steps}: loss {np.mean(losses):.4f}, {minutes:.1f} minutes",
                flush=True,
            )
            losses = []
        if number % 500 == 0 or number == steps:
            present = [variable.numpy() for variable in variables]
            for average, variable in zip(averages, variables, strict=True):
                variable.assign(average)
            save()
            if number < steps:
                for value, variable in zip(present, variables, strict=True):
                    variable.assign(value)


def seed_of(number, salt):
    return tf.stack([tf.constant(salt, tf.int64), number])


def train_student(squares, collections, output, steps, learning_rate):
    """The classifier of grey photographs learns what the published one says of the colour ones.

    The teacher sees the same window of each photograph (Beyer et al., arXiv 2106.05237, 2022).
    """
    teacher = load_extractor("efficientnet_lite2")
    student = classifier_for(None, "efficientnet_lite2")
    teacher, learner = logits_and_features(teacher), logits_and_features(student)

    def loss(windows_and_extra, number):
        window, _ = windows_and_extra
        rgb = tf.cast(window, tf.float32) / 255
        wanted = teacher(at_size(rgb, 260) * 2 - 1, training=False)
        size = tf.where(number % 2 == 0, 224, 260)
        grey = film.random_film(at_size(rgb, size), seed_of(number, 7))
        return distillation(wanted, learner(three_channels(grey), training=True))

    nothing = np.zeros((len(squares), 1), np.float16)
    batches = windows(squares, collections, nothing, SIDE, 0.9, seed=0)
    save = lambda: save_weights(student, output, {"steps": steps})  # noqa: E731
    minimize(learner.trainable_variables, loss, batches, steps, learning_rate, 0, save)


def three_channels(grey):
    """Grey photographs in [0, 1] as a classifier takes them: (N, H, W, 3) in [-1, 1]."""
    return tf.repeat(grey, 3, axis=-1) * 2 - 1


def at_size(rgb, size):
    return tf.clip_by_value(tf.image.resize(rgb, (size, size)), 0, 1)


def validate_student(parts, weights):
    """How a classifier of grey photographs agrees with the published one's answer to the colour.

    Prints, for each part, the mean agreement and the share of photographs of which both say the
    same class first: on plain panchromatic film, then on random films.
    """
    model = classifier_for(None, "efficientnet_lite2")
    load_weights(model, weights)
    both = logits_and_features(model), logits_and_features(load_extractor("efficientnet_lite2"))
    for name, squares in parts.items():
        print(f"{name:16}", *(f"{value:.3f}" for value in agreement_of(*both, squares)), flush=True)


def agreement_of(student, teacher, squares):
    """Mean agreement and share of the same first class, on plain and on random films: (4,)."""

    def first_class(both):
        return tf.argmax(both[:, :EMBEDDING_SIZE], -1)

    def of_photographs(rgb):
        wanted, found = teacher(rgb * 2 - 1, training=False), []
        for grey in (film.to_grey(rgb), film.random_film(rgb, (0, 0))):
            said = student(three_channels(grey), training=False)
            same = first_class(said) == first_class(wanted)
            found += [agreement(wanted, said), tf.cast(same, tf.float32)]
        return tf.stack(found, -1)

    return in_batches(tf.function(of_photographs), squares, 260).astype(np.float32).mean(0)


def kept_in(file, function, squares):
    """A function of RGB, as :func:`in_batches`, standardized; `file` keeps it for the next run."""
    if not file.exists() or len(np.load(file, mmap_mode="r")) != len(squares):
        vectors = standardize(in_batches(tf.function(function), squares, LOOK).astype(np.float32))
        np.save(file, vectors.astype(np.float16))
    return np.load(file)


def own_logits():
    """A function from lightness to the logits of koala-plus's encoder, the bundled classifier."""
    plus = network.build_plus()
    network.load_encoder(plus)
    encoder = plus.get_layer("encoder")
    return lambda lightness: encoder(lightness, training=False)[-1]


def embeddings(squares, file):
    """What the bundled classifier says of the grey photographs: float16 (N, 1000)."""
    logits_of = own_logits()
    return kept_in(file, lambda rgb: logits_of(lab.lightness(film.to_grey(rgb))), squares)


def decoder_loss(chroma, logits):
    """Cross-entropy of the bins, and 100 times the squared error of their mean.

    Args:
        chroma: the truth (N, H, W, 2) in [-1, 1].
        logits: (N, H / 4, W / 4, 261).
    """
    mean = tf.matmul(tf.nn.softmax(logits), tf.constant(quantization.bins()[0]))
    error = tf.reduce_mean((mean - tf.nn.avg_pool2d(chroma, 4, 4, "VALID")) ** 2)
    return cross_entropy(chroma, logits) + 100 * error


def train_decoder(squares, collections, vectors, output, steps, learning_rate, start_from=None):
    """koala-plus's decoder, behind the frozen encoder."""
    plus = network.build_plus(dtype=best_dtype())
    network.load_encoder(plus)
    encoder, decoder = plus.get_layer("encoder"), plus.get_layer("decoder")
    if start_from:
        load_weights(decoder, start_from)

    def loss(windows_and_embeddings, number):
        window, vector = windows_and_embeddings
        rgb, seed = tf.cast(window, tf.float32) / 255, seed_of(number, 1)
        *features, _ = encoder(lab.lightness(film.random_film(rgb, seed)), training=False)
        vector = records.blur_embedding(tf.cast(vector, tf.float32), seed + 7)
        logits = decoder([*features, vector], training=True)
        return decoder_loss(lab.chroma(rgb), logits)

    batches = windows(squares, collections, vectors, 128, 128 / 224, seed=steps)
    save = lambda: save_weights(decoder, output, {"model": "koala-plus", "mean_error": 100})  # noqa: E731
    minimize(decoder.trainable_variables, loss, batches, steps, learning_rate, 0.998, save)


def validate(parts, weights):
    """Squared ab error over grey's, and colourfulness over the truth's, of each part."""
    plus = network.build_plus()
    network.load_encoder(plus)
    load_weights(plus.get_layer("decoder"), weights)
    own = network.with_own_embedding(plus)
    logits_of = tf.function(lambda lightness, _: own(lightness, training=False)[0])
    lines = []
    for name, squares in parts.items():
        lines.append(measured(logits_of, squares))
        print(f"{name:16}", *(f"{value:.3f}" for value in lines[-1]), flush=True)
    print(f"{'mean':16}", *(f"{value:.3f}" for value in np.mean(lines, axis=0)))


def measured(output_of, squares):
    """Ratios at the vividness 0, 0.5 and 1, then the colourfulness at 0.5 and 1.

    Args:
        output_of: a network's output, from lightness and true chroma, which only hints may use.
    """
    errors, colours = np.zeros(3), np.zeros(3)
    grey, colour = 0.0, 0.0
    for start in range(0, len(squares), 16):
        rgb = tf.cast(squares[start : start + 16], tf.float32) / 255
        rgb = tf.clip_by_value(tf.image.resize(rgb, (224, 224), antialias=True), 0, 1)
        lightness, truth = lab.lightness(film.to_grey(rgb)), lab.chroma(rgb)
        output = output_of(lightness, truth)
        grey += float(tf.reduce_sum(truth**2))
        colour += sum(colorfulness(photo) for photo in as_bytes(rgb))
        for i, vividness in enumerate((0, 0.5, 1)):
            said = network.chroma_of(output, vividness)
            errors[i] += float(tf.reduce_sum((said - truth) ** 2))
            colours[i] += sum(
                colorfulness(photo) for photo in as_bytes(lab.to_rgb(lightness, said))
            )
    return [*errors / grey, *colours[1:] / colour]


def as_bytes(rgb):
    return (np.asarray(rgb) * 255).astype(np.uint8)


def train_koala(squares, collections, vectors, output, steps, learning_rate, start_from, old):
    """The paper's network, from weights for this embedding or from the first generation's."""
    model = network.build_network(dtype=best_dtype())
    if start_from:
        load_weights(model, start_from)
    else:
        load_weights(model, old / "koala.safetensors")
        move_fusion(model, squares, vectors, old)

    def loss(windows_and_embeddings, number):
        window, vector = windows_and_embeddings
        rgb, seed = tf.cast(window, tf.float32) / 255, seed_of(number, 3)
        vector = records.blur_embedding(tf.cast(vector, tf.float32), seed + 7)
        grey = lab.lightness(film.random_film(rgb, seed))
        return tf.reduce_mean((model([grey, vector], training=True) - lab.chroma(rgb)) ** 2)

    batches = windows(squares, collections, vectors, 96, 0.75, seed=steps)
    facts = {"model": "koala", "extractor": "efficientnet_lite2_grey"}
    save = lambda: save_weights(model, output, facts)  # noqa: E731
    minimize(model.trainable_variables, loss, batches, steps, learning_rate, 0.995, save)


def move_fusion(model, squares, vectors, old):
    """Moves a network's fusion to another embedding.

    The old fusion multiplied MobileNetV2's embedding with a matrix. A ridge regression finds the
    matrix that gives most nearly the same from the new embedding.
    """
    before = keras.applications.MobileNetV2(weights=None, classifier_activation=None)
    load_weights(before, old / "mobilenet_v2_grey.safetensors")
    call = lambda rgb: before(three_channels(film.to_grey(rgb)), training=False)  # noqa: E731
    some = np.random.default_rng(0).choice(len(squares), min(5000, len(squares)), replace=False)
    theirs = standardize(in_batches(tf.function(call), squares[some], 224).astype(np.float32))
    ours = vectors[some].astype(np.float32)
    fusion = model.get_layer("fusion_embedding")
    matrix, bias = fusion.get_weights()
    moved = np.linalg.solve(ours.T @ ours + 300 * np.eye(1000), ours.T @ (theirs @ matrix))
    fusion.set_weights([moved, bias])


COMMANDS = ["store", "student", "validate-student", "decoder", "validate", "koala"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("folder", type=Path, help="of the stored squares")
    parser.add_argument("-o", "--output", type=Path, help="safetensors file, which validate reads")
    parser.add_argument("--photographs", type=Path, help="folder of the collections' archives")
    parser.add_argument("--slides", type=Path, help="kodachrome.csv", required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--start-from", type=Path, help="weights to train on")
    parser.add_argument("--old", type=Path, help="folder of the first generation's weights")
    parser.add_argument("--without", nargs="*", default=[], help="collections not to train on")
    options = parser.parse_args()
    if options.what == "store":
        store(options.photographs, options.folder)
        return
    if options.what.startswith("validate"):
        check = validate if options.what == "validate" else validate_student
        check(load_validation(options.folder, options.slides), options.output)
        return
    for name in options.without:
        del SHARES[name]
    squares, collections = load(options.folder, options.slides)
    how = options.output, options.steps, options.learning_rate
    if options.what == "student":
        train_student(squares, collections, *how)
        return
    vectors = embeddings(squares, options.folder / "embeddings.npy")
    if options.what == "decoder":
        train_decoder(squares, collections, vectors, *how, options.start_from)
    else:
        train_koala(squares, collections, vectors, *how, options.start_from, options.old)


if __name__ == "__main__":
    main()
