"""Simulate, train, evaluate: ClofNet against straight motion.

Run ``python -m examples.newton``; it takes a minute or two. Started again, it finds its files and trains no more.
"""

from dataclasses import replace
from pathlib import Path

import torch

from clof_ext import newton

folder = Path("runs/example")
splits = {"train": newton.Parameters("es5", 0, 1000), "valid": newton.Parameters("es5", 1000, 500)}
newton.make_data_set(folder / "data", splits, print)
samples = newton.load_trajectories(folder / "data" / "valid.safetensors").samples()

recipe = newton.Recipe(epochs=20)
for name in ("linear", "clofnet"):
    history = newton.train(folder / "data", folder / name, replace(recipe, network=name))
    network, trained = newton.load_network(folder / name)
    errors = newton.prediction_errors(network, samples)
    print(f"{name}: squared error {errors.mean:.4f}, 95 % interval {errors.low:.4f} to {errors.high:.4f}")
    print(f"  turned and moved inputs: differs by {newton.equivariance_error(network, samples):.0e}")

# A trained network is a torch.nn.Module on graphs of any size.
edge_index = newton.fully_connected(n_particles=5, n_systems=1)
batch = newton.make_batch(samples, slice(0, 1), edge_index)
with torch.no_grad():
    print(newton.predict(network, batch))
