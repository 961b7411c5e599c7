"""The authors' unimodal network in Keras, as a peer of ours; run by a Python that has tensorflow-cpu and keras.

    python keras_peer.py FILE.npz float32

The file has images (n, 80, 60), target (n,) and our weights by name. Prints JSON: milliseconds of a step, and how far
scores and gradients differ from ours. One thread.
"""

import json
import os
import sys
import time

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}

import keras
import numpy as np
import tensorflow as tf
from keras import layers

BATCH, EPOCHS = 16, 4


def make_network(output: str = "float32") -> keras.Model:
    """The network of figure 3; its layers have our names."""

    def convolve(maps, name, filters, kernel, strides=1):
        settings = {"strides": strides, "padding": "same", "activation": "relu"}
        return layers.Conv2D(filters, kernel, name=name, **settings)(maps)

    def normalise(maps, name):
        return layers.BatchNormalization(name=name)(maps)

    images = keras.Input((80, 60, 3))
    first = second = images
    for number in ("1", "2"):
        first = normalise(convolve(first, f"block1.conv{number}", 32, 3), f"block1.norm{number}")
        first = layers.MaxPooling2D(2)(first)
        second = normalise(convolve(second, f"block2.conv{number}", 32, 5, 2), f"block2.norm{number}")
    features = layers.Flatten()(convolve(layers.Add()([first, second]), "merge", 64, 5))
    for name, units in (("dense1", 32), ("dense2", 16)):
        features = layers.Dense(units, activation="relu", name=name)(features)
    return keras.Model(images, layers.Dense(1, activation="sigmoid", dtype=output, name="output")(features))


def compare(network: keras.Model, ours, images, target) -> dict[str, float]:
    """Largest differences of scores in training mode, and of gradients of the loss, with our weights."""
    found = {name.replace("/", "."): value for name, value in ours.items()}
    kinds = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
    names = [f"{variable.path.replace('/', '.').rsplit('.', 1)[0]}.{kinds[variable.name]}" for variable in
             network.trainable_variables]  # fmt: skip
    for name, variable in zip(names, network.trainable_variables, strict=True):
        variable.assign(to_keras(found[name]))
    with tf.GradientTape() as tape:
        scores = network(images, training=True)
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(target[:, None].astype(float), scores))
    gradients = tape.gradient(loss, [each.value for each in network.trainable_variables])
    pairs = zip(names, gradients, strict=True)
    largest = max(np.abs(to_keras(found[f"gradient.{name}"]) - gradient.numpy()).max() for name, gradient in pairs)
    return {"scores": float(np.abs(scores.numpy()[:, 0] - found["scores"]).max()), "gradients": float(largest)}


def to_keras(values):
    """A kernel of PyTorch in Keras' order of axes."""
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T


def main(path: str, arithmetic: str) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    content = np.load(path)
    images = np.repeat(content["images"][..., None].astype(np.float32) / np.float32(255), 3, axis=-1)
    target = content["target"].astype(np.float32)
    keras.config.set_dtype_policy("float64")  # float32 sums of batch norm differ by 1e-4 from one library to the other
    result = compare(make_network("float64"), content, images[:BATCH].astype(float), content["target"][:BATCH])
    keras.config.set_dtype_policy("mixed_bfloat16" if arithmetic == "bfloat16" else "float32")
    network = make_network()
    network.compile(optimizer="adam", loss="binary_crossentropy")
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        network.fit(images, target, batch_size=BATCH, epochs=1, verbose=0)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({**result, "ms": min(seconds[1:]) / (len(images) // BATCH) * 1000}))  # the first one compiles


if __name__ == "__main__":
    main(*sys.argv[1:])
