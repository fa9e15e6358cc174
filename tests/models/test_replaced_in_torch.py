"""Replaced models inside the rest of PyTorch: what works with the plain model works with the replaced one."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import clof_ext
from benchmarks import diffusion as edm
from clof_ext.bench.published import ClofNet_vel
from tests.lookalikes import egnn_pytorch

H, N_NODES = 6, 4


class Displaced(nn.Module):
    """ClofNet: positions x (N, 3) and more in, one (N, 3) tensor out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, h, x, vel, row, col, edge_attr):
        # ClofNet's layers write into the positions that they are given.
        return self.network(h, x.clone(), torch.stack((row, col)), vel, edge_attr, n_nodes=N_NODES) - x


class Moved(Displaced):
    """The network of EDM, with the same arguments."""

    def forward(self, h, x, vel, row, col, edge_attr):
        features, moved = self.network(h, x, [row, col], edge_mask=edge_attr[:, :1])
        return moved - x + features


class Dense(nn.Module):
    """Layers of egnn-pytorch on all pairs of each graph, with the same arguments; edges are not read."""

    def __init__(self, n_layers: int = 2) -> None:
        super().__init__()
        options = {"edge_dim": 1, "m_dim": 4, "fourier_features": 1, "soft_edges": True, "norm_feats": True}
        self.embedding = nn.Linear(1, H)
        self.layers = nn.ModuleList(egnn_pytorch.EGNN(H, **options) for _ in range(n_layers))

    def forward(self, h, x, vel, row, col, edge_attr):
        charge, start = h.unflatten(0, (-1, N_NODES)), x.unflatten(0, (-1, N_NODES))
        feats, moved, edges = self.embedding(charge), start, charge[:, :, None] * charge[:, None]
        for layer in self.layers:
            feats, moved = layer(feats, moved, edges=edges)
        return (moved - start + feats.mean(-1, keepdim=True)).flatten(0, 1)


def clofnet(n_layers: int = 2) -> nn.Module:
    return Displaced(ClofNet_vel(1, 2, H, n_layers))


def diffusion(n_layers: int = 2) -> nn.Module:
    return Moved(edm.EGNN(1, H, n_layers, inv_sublayers=1, normalization_factor=1))


MODELS = {"clofnet": clofnet, "edm": diffusion, "egnn-pytorch": Dense}
every = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def plain(make) -> nn.Module:
    torch.manual_seed(0)
    model = make().double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


def fused(make) -> nn.Module:
    model = plain(make)
    report = clof_ext.replace_layers(model)
    assert report.replaced
    assert not report.left
    return model


def batch(n_graphs: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(n_graphs)
    nodes = torch.arange(n_graphs * N_NODES).view(n_graphs, N_NODES)
    rows, cols = torch.broadcast_tensors(nodes[:, :, None], nodes[:, None, :])
    others = ~torch.eye(N_NODES, dtype=torch.bool).expand(n_graphs, -1, -1)
    row, col = rows[others], cols[others]
    h, x, vel = (torch.randn(n_graphs * N_NODES, size, generator=generator).double() for size in (1, 3, 3))
    edge_attr = torch.randint(0, 2, (len(row), 2), generator=generator).double()
    return {"h": h, "x": x, "vel": vel, "row": row, "col": col, "edge_attr": edge_attr}


def results(model, values: dict[str, Tensor]) -> list[Tensor]:
    """The output, and all gradients of a combination of it."""
    x = values["x"].clone().requires_grad_()
    output = model(**{**values, "x": x})
    loss = (output * torch.arange(output.numel()).view_as(output).cos()).sum()
    return [output, *torch.autograd.grad(loss, [x, *model.parameters()], allow_unused=True, materialize_grads=True)]


def assert_same(actual, expected) -> None:
    assert any(value.abs().max() > 1e-3 for value in expected)
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9)


def rest(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if name != "x"}


@every
def test_compiled_whole_with_dynamic_shapes(make):
    """One graph serves batches of other sizes, with the gradients of the plain model."""
    torch._dynamo.reset()
    model = plain(partial(make, n_layers=1))
    expected = [results(model, batch(n_graphs)) for n_graphs in (2, 5)]
    clof_ext.replace_layers(model)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    assert_same(results(compiled, batch(2)), expected[0])
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert_same(results(compiled, batch(5)), expected[1])


def test_compiled_by_inductor():
    """One block: compiling C++ takes most of the time."""

    def make() -> nn.Module:
        return edm.EquivariantBlock(H, n_layers=1, normalization_factor=1)

    def outputs(model, values: dict[str, Tensor]) -> Tensor:
        row, col, x = values["row"], values["col"], values["x"].clone().requires_grad_()
        h, moved = model(values["h"].expand(-1, H), x, [row, col], edge_attr=values["edge_attr"][:, :1])
        return torch.autograd.grad(h.sum() + moved.square().sum(), [x, *model.parameters()])

    torch._dynamo.reset()
    block = plain(make)
    expected = outputs(block, batch())
    clof_ext.replace_layers(block)
    assert_same(outputs(torch.compile(block, fullgraph=True), batch()), expected)


@every
def test_exported_with_dynamic_sizes(make):
    make = partial(make, n_layers=1)
    nodes, edges = torch.export.Dim("nodes", min=2, max=1000) * N_NODES, torch.export.Dim("edges", min=2, max=10000)
    sizes = {"h": {0: nodes}, "x": {0: nodes}, "vel": {0: nodes}, "edge_attr": {0: edges}}
    program = torch.export.export(
        fused(make), (), batch(2), dynamic_shapes={**sizes, "row": {0: edges}, "col": {0: edges}}
    )
    for n_graphs in (2, 3):
        assert_same([program.module()(**batch(n_graphs))], [plain(make)(**batch(n_graphs))])


@every
def test_functional_call_uses_the_given_weights(make):
    halves = {name: value / 2 for name, value in plain(make).state_dict().items()}
    expected = functional_call(plain(make), halves, (), batch())
    assert_same([functional_call(fused(make), halves, (), batch())], [expected])


@every
def test_func_grad(make):
    weights = plain(make).state_dict()

    def gradients(model: nn.Module) -> dict[str, Tensor]:
        return grad(lambda given: functional_call(model, given, (), batch()).square().sum())(weights)

    assert_same(gradients(fused(make)).values(), gradients(plain(make)).values())


def test_vmap():
    """ClofNet's own layers write into their positions, which vmap refuses; EDM's do not."""
    model, values = fused(diffusion), batch()
    positions = torch.stack([values["x"], -values["x"], values["x"] / 2])
    stacked = vmap(lambda x: model(x=x, **rest(values)))(positions)
    assert_same([stacked], [torch.stack([plain(diffusion)(x=x, **rest(values)) for x in positions])])


@every
def test_forward_mode(make):
    values = batch()
    direction = values["vel"].flip(0)

    def derivative(model: nn.Module) -> Tensor:
        return jvp(lambda x: model(x=x, **rest(values)), (values["x"],), (direction,))[1]

    expected = derivative(plain(make))
    assert_same([derivative(fused(make))], [expected])
    with forward_ad.dual_level():
        dual = fused(make)(x=forward_ad.make_dual(values["x"], direction), **rest(values))
        assert_same([forward_ad.unpack_dual(dual).tangent], [expected])


@every
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(make, reentrant):
    model, values = fused(make), batch()

    def called(**arguments: Tensor) -> Tensor:
        x = arguments.pop("x")
        return checkpoint(lambda x: model(x=x, **arguments), x, use_reentrant=reentrant)

    x = values["x"].clone().requires_grad_()
    called(**{**values, "x": x}).square().sum().backward()
    twin, y = plain(make), values["x"].clone().requires_grad_()
    twin(**{**values, "x": y}).square().sum().backward()
    pairs = [(x.grad, y.grad), *((a.grad, b.grad) for a, b in zip(model.parameters(), twin.parameters()))]
    assert_same(*zip(*((a, b) for a, b in pairs if b is not None)))


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
    "moving average": lambda model: AveragedModel(model).module,
}


@every
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies_are_replaced_and_read_their_own_weights(make, duplicate):
    model = fused(make)
    twin = duplicate(model)
    expected = results(model, batch())
    for parameter in model.parameters():
        parameter.data.zero_()
    assert_same(results(twin, batch()), expected)
    clof_ext.restore_layers(twin)
    assert_same(results(twin, batch()), expected)


@every
def test_moving_average_of_a_training(make):
    """The average of two steps is that of the plain model."""
    models = {"plain": plain(make), "fused": fused(make)}
    outputs = []
    for model in models.values():
        average = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
        optimizer = torch.optim.AdamW(decay_groups(model), lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            model(**batch()).square().mean().backward()
            optimizer.step()
            average.update_parameters(model)
        outputs.append([average(**batch()), model(**batch())])
    assert_same(*outputs)


def decay_groups(model: nn.Module) -> list[dict]:
    """Weights decay, biases do not."""
    named = list(model.named_parameters())
    return [
        {"params": [value for _, value in named if value.dim() > 1], "weight_decay": 0.1},
        {"params": [value for _, value in named if value.dim() <= 1], "weight_decay": 0.0},
    ]


@every
def test_state_dicts_load_both_ways(make):
    state = fused(make).state_dict()
    other = make().double()
    other.load_state_dict(state)
    assert_same([other(**batch())], [plain(make)(**batch())])
    replaced = make().double()
    clof_ext.replace_layers(replaced)
    replaced.load_state_dict(plain(make).state_dict())
    assert_same([replaced(**batch())], [plain(make)(**batch())])


@every
def test_training_after_inference_mode(make):
    """What was prepared for a graph in inference mode serves the training that comes after it."""
    model, values = fused(make), batch()
    with torch.inference_mode():
        assert_same([model(**values)], [plain(make)(**values)])
    assert_same(results(model, values), results(plain(make), values))


@every
def test_threads(make):
    model, batches = fused(make), [batch(1 + k % 3) for k in range(12)]
    expected = [plain(make)(**values) for values in batches]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        assert_same(list(pool.map(lambda values: model(**values), batches)), expected)


@every
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced(make):
    traced = torch.jit.trace(fused(make), example_kwarg_inputs=batch(), check_trace=False)
    assert_same([traced(**batch())], [plain(make)(**batch())])


@pytest.fixture
def process_group():
    """One process that speaks gloo with itself."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients_after_backward(model: nn.Module) -> list[Tensor]:
    model(**batch()).square().sum().backward()
    grads = [value.grad for value in model.parameters() if value.grad is not None]
    return [value.full_tensor() if hasattr(value, "full_tensor") else value for value in grads]


@every
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel(make):
    expected = gradients_after_backward(plain(make))
    parallel = DistributedDataParallel(fused(make), find_unused_parameters=True)
    assert_same(gradients_after_backward(parallel), expected)


def whole(model: nn.Module) -> list[nn.Module]:
    return [model]


def layers(model: nn.Module) -> list[nn.Module]:
    """What was replaced, the parts of a whole before it, then the model."""
    return [*reversed([layer for layer in model.modules() if "forward" in vars(layer)]), model]


def parts(model: nn.Module) -> list[nn.Module]:
    """The Sequentials inside the replaced layers, then the model: their layers run their own forward."""
    return [*(part for part in model.modules() if isinstance(part, nn.Sequential)), model]


@every
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
@pytest.mark.parametrize("sharded", [whole, layers, parts])
@pytest.mark.usefixtures("process_group")
def test_fully_sharded(make, sharded):
    expected = gradients_after_backward(plain(make))
    model = fused(make)
    mesh = dist.init_device_mesh("cpu", (1,))
    for module in sharded(model):
        fully_shard(module, mesh=mesh)
    assert_same(gradients_after_backward(model), expected)
