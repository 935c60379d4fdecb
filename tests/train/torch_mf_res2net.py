"""MF-RES2Net in PyTorch, written from the description of the network and from nothing else, to train beside ours.

usage: torch_mf_res2net.py <case.safetensors> <folder> <steps> <states|losses>

The case holds the weights and running statistics under their names, `input` [batch, 4, x, y, z] and `classes`
[batch, x, y, z]. Trains <steps> steps on that one batch: weighted Tversky loss without absent classes, Adam at 1e-3 with
an L2 coefficient of 1e-5, all in float64. Writes into the folder, as float64: `losses` of all steps, and of the first
step `output` (logits) and `grad.<name>` for every parameter. With `states`, writes state.<k>.safetensors, as float32,
before step k = 0, 1, ... and after the last: `weight.<name>` of parameters and running statistics, `first.<name>` and
`second.<name>`, the moments.
"""

import sys

import torch
import torch.nn.functional as F

import exchange
import torch_losses

EPSILON = 1e-5
MOMENTUM = 0.1


class MfRes2Net:
    """The network as a function of named tensors; widths and number of levels follow from them."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.levels = sum(name.endswith(".down.conv.weight") for name in tensors)

    def layer(self, x, name, padding=0, stride=1, relu=True):
        """Convolution without bias, batch normalisation, and ReLU unless the layer is the last of a branch."""
        t = self.tensors
        x = F.conv3d(x, t[name + ".conv.weight"], stride=stride, padding=padding)
        x = F.batch_norm(
            x,
            t[name + ".bn.running_mean"],
            t[name + ".bn.running_var"],
            t[name + ".bn.weight"],
            t[name + ".bn.bias"],
            training=True,
            momentum=MOMENTUM,
            eps=EPSILON,
        )
        return torch.relu(x) if relu else x

    def unit(self, x, name):
        y = self.layer(x, name + ".mf1")
        y = self.layer(y, name + ".mf2")
        y = self.layer(y, name + ".in")
        x1, x2, x3, x4 = torch.chunk(y, 4, dim=1)
        in_plane = (1, 1, 0)
        y2 = self.layer(x2, name + ".k2", in_plane)
        y3 = self.layer(x3 + y2, name + ".k3", in_plane)
        y4 = self.layer(x4 + y3, name + ".k4", in_plane)
        y = self.layer(torch.cat([x1, y2, y3, y4], dim=1), name + ".fuse1")
        y = self.layer(y, name + ".fuse2", (0, 1, 1), relu=False)
        if name + ".shortcut.conv.weight" in self.tensors:
            x = self.layer(x, name + ".shortcut", relu=False)
        return torch.relu(y + x)

    def __call__(self, image):
        x = image
        maps = []
        for level in range(1, self.levels + 1):
            x = self.layer(x, f"enc{level}.down", padding=1, stride=2)
            x = self.unit(x, f"enc{level}.unit1")
            x = self.unit(x, f"enc{level}.unit2")
            maps.append(x)
        for level in range(1, self.levels + 1):
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            if level < self.levels:
                x = torch.cat([x, maps[self.levels - 1 - level]], dim=1)
            x = self.unit(x, f"dec{level}.unit")
        return F.conv3d(x, self.tensors["head.conv.weight"])


def state_of(optimiser, tensors):
    """Everything that training has changed, by name."""
    state = {}
    for name, tensor in tensors.items():
        state["weight." + name] = tensor.detach().numpy()
        if tensor.requires_grad:
            moments = optimiser.state.get(tensor, {})
            for ours, theirs in (("first.", "exp_avg"), ("second.", "exp_avg_sq")):
                state[ours + name] = moments.get(theirs, torch.zeros_like(tensor)).detach().numpy()
    return state


def train(case, folder, steps, with_states):
    arrays = exchange.read_safetensors(case)
    image = torch.from_numpy(arrays.pop("input")).to(torch.float64)
    classes = torch.from_numpy(arrays.pop("classes")).to(torch.int64)
    tensors = {name: torch.from_numpy(values).to(torch.float64) for name, values in arrays.items()}
    learnable = {name: t.requires_grad_() for name, t in tensors.items() if ".running_" not in name}
    network = MfRes2Net(tensors)
    optimiser = torch.optim.Adam(learnable.values(), lr=1e-3, weight_decay=1e-5)
    losses = []

    def write_state(number):
        if with_states:
            exchange.write_safetensors(f"{folder}/state.{number}.safetensors", state_of(optimiser, tensors))

    for step in range(steps):
        write_state(step)
        logits = network(image)
        loss = torch_losses.overlap_loss(logits, classes, "weighted-tversky", "skip", True)
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            exchange.write_doubles(folder, "output", logits.detach().numpy())
            for name, tensor in learnable.items():
                exchange.write_doubles(folder, "grad." + name, tensor.grad.numpy())
        optimiser.step()
    write_state(steps)
    exchange.write_doubles(folder, "losses", losses)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "states")
