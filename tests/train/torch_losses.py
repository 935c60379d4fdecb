"""The losses and the optimiser in PyTorch, as the formulas are written, with autograd in place of derivatives.

usage: torch_losses.py losses <case.safetensors> <folder>
       torch_losses.py adam <case.safetensors> <folder>

losses: the case holds `logits.<k>` and `targets.<k>` [batch, class, x, y, z] and `classes.<k>` [batch, x, y, z] for k = 0, 1, ...;
`losses.json` in the folder says which losses, by name; those of regions are of the logits of three channels, the others
of the rest. Writes `<name>.<k>`, the loss, and `<name>.<k>.grad`, its gradient by the logits, for all of them.

adam: the case holds `start`, a parameter, and `gradients` [step, ...]. Writes `<amsgrad>.<clip>`, the parameter after
all steps, for amsgrad 0 and 1, clip 0 and 1 (the norm to which gradients are clipped; 0: not at all).
"""

import itertools
import json
import os
import sys

import torch

import exchange


def in_regions(classes):
    """Whole tumour, tumour core and enhancing tumour, [batch, region, x, y, z]; class 3 is enhancing, 1 necrotic core."""
    return torch.stack([classes >= 1, (classes == 1) | (classes == 3), classes == 3], dim=1).to(torch.float64)


def overlap_loss(logits, classes, kind, absent, background, regions=False, gamma=4 / 3, alpha=0.3, beta=0.7):
    if kind in ("cross-entropy", "focal", "topk"):
        return (0 * logits).sum()
    count = logits.shape[1]
    by_class = (1, 0, 2, 3, 4)
    probabilities = torch.sigmoid(logits) if regions else torch.softmax(logits, dim=1)
    truth = in_regions(classes) if regions else torch.nn.functional.one_hot(classes, count).permute(0, 4, 1, 2, 3)
    p = probabilities.permute(*by_class).reshape(count, -1)
    g = truth.to(p.dtype).permute(*by_class).reshape(count, -1)
    present = g.sum(1) > 0
    counted = present if absent == "skip" else torch.ones_like(present)
    if not background and not regions:
        counted = counted & (torch.arange(count) > 0)
    if not counted.any():
        return (0 * logits).sum()
    true_positive = (p * g).sum(1)
    priced = true_positive + alpha * (p * (1 - g)).sum(1) + beta * ((1 - p) * g).sum(1)

    if kind == "dice":
        score = 2 * true_positive / ((p * p).sum(1) + (g * g).sum(1) + 1e-5)
        return 1 - score[counted].mean()
    if kind == "log-cosh-dice":
        score = 2 * true_positive / ((p * p).sum(1) + (g * g).sum(1) + 1e-5)
        return torch.log(torch.cosh(1 - score))[counted].mean()
    if kind == "dice-ce":
        score = 2 * true_positive / (p.sum(1) + g.sum(1) + 1e-5)
        return 1 - score[counted].mean()
    if kind == "tversky":
        return 1 - (true_positive / priced)[counted].mean()
    if kind == "focal-tversky":
        return ((1 - true_positive / priced)[counted] ** (1 / gamma)).mean()
    if kind == "weighted-tversky":
        weight = 1 / (g.sum(1) ** 2 + 1e-4)
        return 1 - (weight * true_positive)[counted].sum() / (weight * priced)[counted].sum()
    weight = torch.where(present, g.sum(1), torch.full_like(priced, 1e-2)) ** -2
    ratio = 2 * (weight * true_positive)[counted].sum() / (weight * (p + g).sum(1))[counted].sum()
    return 1 - (ratio / count if kind == "gdl-paper" else ratio)


def cross_entropy(logits, classes, focal_gamma, top_share, regions):
    if regions:
        values = torch.nn.functional.binary_cross_entropy_with_logits(logits, in_regions(classes), reduction="none")
    else:
        values = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    values = (1 - torch.exp(-values)) ** focal_gamma * values
    values = (values.mean(1) if regions else values).flatten()
    if top_share < 1:
        values = values.topk(max(1, int(top_share * values.numel()))).values
    return values.mean()


def distillation(logits, targets, temperature, regions):
    if regions:
        return temperature**2 * torch.nn.functional.binary_cross_entropy_with_logits(logits / temperature, targets)
    by_voxel = torch.nn.functional.cross_entropy(logits / temperature, targets, reduction="none")
    return temperature**2 * by_voxel.mean()


def loss_of(logits, classes, targets, kind, absent, background, batch, regions, overlap_weight, ce_weight, focal_gamma,
            top_share, distill_weight, distill_temperature, tversky_gamma):
    groups = [slice(None)] if batch else [slice(n, n + 1) for n in range(len(logits))]
    overlap = torch.stack([overlap_loss(logits[n], classes[n], kind, absent, background, regions, tversky_gamma)
                           for n in groups]).mean()
    loss = overlap_weight * overlap + ce_weight * cross_entropy(logits, classes, focal_gamma, top_share, regions)
    return loss + distill_weight * distillation(logits, targets, distill_temperature, regions)


def losses(case, folder):
    tensors = exchange.read_safetensors(case)
    with open(os.path.join(folder, "losses.json")) as file:
        described = json.load(file)
    for k in range(len(tensors) // 3):
        classes = torch.from_numpy(tensors[f"classes.{k}"]).to(torch.int64)
        targets = torch.from_numpy(tensors[f"targets.{k}"]).to(torch.float64)
        for name, options in described.items():
            if options["regions"] != (tensors[f"logits.{k}"].shape[1] == 3):
                continue
            logits = torch.from_numpy(tensors[f"logits.{k}"]).to(torch.float64).requires_grad_()
            loss = loss_of(logits, classes, targets, **options)
            loss.backward()
            exchange.write_doubles(folder, f"{name}.{k}", [loss.item()])
            exchange.write_doubles(folder, f"{name}.{k}.grad", logits.grad.numpy())


def adam(case, folder):
    tensors = exchange.read_safetensors(case)
    gradients = torch.from_numpy(tensors["gradients"]).to(torch.float64)
    for amsgrad, clip in itertools.product((0, 1), repeat=2):
        parameter = torch.from_numpy(tensors["start"]).to(torch.float64).requires_grad_()
        optimiser = torch.optim.Adam([parameter], lr=1e-2, weight_decay=1e-2, amsgrad=bool(amsgrad))
        for gradient in gradients:
            parameter.grad = gradient.clone()
            if clip:
                torch.nn.utils.clip_grad_norm_([parameter], clip)
            optimiser.step()
        exchange.write_doubles(folder, f"{amsgrad}.{clip}", parameter.detach().numpy())


if __name__ == "__main__":
    {"losses": losses, "adam": adam}[sys.argv[1]](sys.argv[2], sys.argv[3])
