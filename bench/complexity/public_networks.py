# SPDX-License-Identifier: MIT
"""Ten public architectures, exported to ONNX, counted by other tools and by mfres; see bench/complexity/run."""

import argparse
import collections
import contextlib
import io
import json
import os
import subprocess
import sys
import warnings

import torch

warnings.filterwarnings("ignore")


def resnet50():
    import torchvision
    return torchvision.models.resnet50(weights=None), (1, 3, 224, 224)


def mobilenet_v2():
    import torchvision
    return torchvision.models.mobilenet_v2(weights=None), (1, 3, 224, 224)


def efficientnet_b0():
    import torchvision
    return torchvision.models.efficientnet_b0(weights=None), (1, 3, 224, 224)


def vit_b_16():
    import timm
    return timm.create_model("vit_base_patch16_224", pretrained=False), (1, 3, 224, 224)


def unet3d():
    from monai.networks.nets import BasicUNet
    return BasicUNet(spatial_dims=3, in_channels=4, out_channels=4), (1, 4, 64, 64, 64)


def vnet():
    from monai.networks.nets import VNet
    return VNet(spatial_dims=3, in_channels=4, out_channels=4), (1, 4, 64, 64, 64)


def segresnet():
    from monai.networks.nets import SegResNet
    return SegResNet(spatial_dims=3, in_channels=4, out_channels=4, init_filters=16), (1, 4, 64, 64, 64)


def swin_unetr():
    from monai.networks.nets import SwinUNETR
    model = SwinUNETR(img_size=(64, 64, 64), in_channels=4, out_channels=4, feature_size=24)

    def projected(x, normalize=False):
        """The same as SwinTransformer.proj_out with the number of channels as a constant, which the exporter needs."""
        if not normalize:
            return x
        last = x.permute(0, 2, 3, 4, 1)
        return torch.nn.functional.layer_norm(last, [int(x.shape[1])]).permute(0, 4, 1, 2, 3)

    model.swinViT.proj_out = projected
    return model, (1, 4, 64, 64, 64)


def unetr():
    from monai.networks.nets import UNETR
    return UNETR(in_channels=4, out_channels=4, img_size=(64, 64, 64)), (1, 4, 64, 64, 64)


def nnunet():
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    model = PlainConvUNet(
        4, 6, (32, 64, 128, 256, 320, 320), torch.nn.Conv3d, 3, (1, 2, 2, 2, 2, 2), (2,) * 6, 4, (2,) * 5,
        conv_bias=True, norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True})
    model.decoder.seg_layers = model.decoder.seg_layers[-1:]  # the others are read in training only
    return model, (1, 4, 64, 64, 64)


NETWORKS = {
    "ResNet-50": resnet50,
    "MobileNetV2": mobilenet_v2,
    "EfficientNet-B0": efficientnet_b0,
    "ViT-B/16": vit_b_16,
    "3-D U-Net": unet3d,
    "V-Net": vnet,
    "SegResNet": segresnet,
    "Swin UNETR": swin_unetr,
    "UNETR": unetr,
    "nnU-Net": nnunet,
}


def file_name(name):
    return "".join(letter if letter.isalnum() else "-" for letter in name).lower() + ".onnx"


def export(model, data, path):
    """The graph as it is written: nothing folded, and no two parameters alike, because the exporter makes one
    initialiser of those that are."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
        # Opset 17 has LayerNormalization, which the exporter of PyTorch 1.13 writes wrongly where it has no weight.
        opset = 16 if "swin" in path else 17
        torch.onnx.export(model, data, path, opset_version=opset, do_constant_folding=False, input_names=["input"],
                          training=torch.onnx.TrainingMode.PRESERVE)


def by_fvcore(model, data):
    from fvcore.nn import FlopCountAnalysis
    counted = FlopCountAnalysis(model, data)
    counted.unsupported_ops_warnings(False)
    counted.uncalled_modules_warnings(False)
    with torch.no_grad():
        return {operator: int(count) for operator, count in counted.by_operator().items()}


def by_ptflops(model, shape):
    from ptflops import get_model_complexity_info
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        macs, parameters = get_model_complexity_info(model, shape[1:], as_strings=False, print_per_layer_stat=False,
                                                     verbose=False, backend="pytorch")
    return {"macs": int(macs), "parameters": int(parameters)}


def by_thop(model, data):
    from thop import profile
    with torch.no_grad():
        macs, parameters = profile(model, inputs=(data,), verbose=False)
    return {"macs": int(macs), "parameters": int(parameters)}


def by_calflops(model, shape):
    from calflops import calculate_flops
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        flops, macs, parameters = calculate_flops(model, input_shape=shape, print_results=False, print_detailed=False,
                                                  output_as_string=False)
    return {"flops": int(flops), "macs": int(macs), "parameters": int(parameters)}


def tried(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:  # a tool that cannot count a network is a result
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def measure(name, folder):
    torch.manual_seed(1)
    path = os.path.join(folder, file_name(name))
    model, shape = NETWORKS[name]()
    model.eval()
    data = torch.zeros(shape)
    if not os.path.exists(path):
        export(model, data, path)
    known = {"network": name, "input": list(shape), "file": path,
             "parameters": sum(parameter.numel() for parameter in model.parameters()),
             "fvcore": tried(by_fvcore, model, data)}
    for tool, function, argument in (("ptflops", by_ptflops, shape), ("calflops", by_calflops, shape),
                                     ("thop", by_thop, data)):
        fresh = NETWORKS[name]()[0].eval()  # each of them leaves hooks and buffers in the model
        known[tool] = tried(function, fresh, argument)
    return known


def ours(program, path):
    run = subprocess.run([program, "complexity", path, "--per-layer", "--json"], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{path}: {run.stdout}{run.stderr}")
    return json.loads(run.stdout)


PRODUCTS = {"conv": "convolution", "conv_transpose": "convolution", "linear": "matrix product", "addmm": "matrix product",
            "matmul": "matrix product", "bmm": "matrix product", "baddbmm": "matrix product",
            "einsum": "matrix product"}


def our_products(report):
    sums = collections.Counter()
    for layer in report["layers"]:
        if layer["macs"]:
            convolution = layer["operation"].startswith("Conv")
            sums["convolution" if convolution else "matrix product"] += layer["macs"]
    return sums


def their_products(fvcore):
    sums = collections.Counter()
    for operator, count in fvcore.items():
        if operator in PRODUCTS:
            sums[PRODUCTS[operator]] += count
    return sums


def giga(value):
    return "-" if value is None else f"{value / 1e9:,.4f}"


def verdict(known, report):
    """Whether both counters agree, and how."""
    theirs, own = their_products(known["fvcore"]), our_products(report)
    if known["parameters"] != report["learnables"]:
        return False, "parameters differ"
    if theirs == own:
        return True, "equal"
    einsum = known["fvcore"].get("einsum", 0)
    apart = sum(own.values()) - sum(theirs.values())
    if einsum and theirs["convolution"] == own["convolution"] and abs(apart) < einsum * 1e-3:
        return True, f"equal but for {apart:+,}: fvcore reads einsum from numpy.einsum_path, which prints four digits"
    return False, f"differs: {dict(theirs)} and {dict(own)}"


def row(known, report):
    equal, words = verdict(known, report)
    cells = [known["network"], "x".join(map(str, known["input"])), f"{known['parameters']:,}",
             f"{report['learnables']:,}", f"{sum(their_products(known['fvcore']).values()):,}",
             f"{report['macs']:,}", words]
    others = [known["network"], giga(report["macs"]), giga(report["table2_flops"]),
              giga(sum(known["fvcore"].values()) if "error" not in known["fvcore"] else None)]
    for tool in ("ptflops", "thop", "calflops"):
        others.append(giga(known[tool].get("macs")) if "error" not in known[tool] else known[tool]["error"][:60])
    return equal, cells, others


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="where the exported files lie, gigabytes in all")
    parser.add_argument("--program", default="build/dev/bin/mfres")
    parser.add_argument("--only", action="append", choices=list(NETWORKS))
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    counts, others, fvcore, all_equal = [], [], [], True
    for name in arguments.only or NETWORKS:
        record = os.path.join(arguments.folder, file_name(name) + ".json")
        if not os.path.exists(record):
            print(f"{name} ...", file=sys.stderr)
            with open(record + ".part", "w") as file:
                json.dump(measure(name, arguments.folder), file, indent=1)
            os.rename(record + ".part", record)
        with open(record) as file:
            known = json.load(file)
        if arguments.program == "none":
            continue
        equal, cells, more = row(known, ours(arguments.program, known["file"]))
        all_equal = all_equal and equal
        counts.append(cells)
        others.append(more)
        fvcore.append([name, ", ".join(f"{operator} {count:,}" for operator, count in known["fvcore"].items())])
    print(table(["network", "input", "parameters in PyTorch", "mfres", "multiply-adds, fvcore's products", "mfres", ""],
                counts))
    print()
    print(table(["10^9", "mfres MACs", "mfres Table 2", "fvcore", "ptflops", "thop", "calflops MACs"], others))
    print()
    print(table(["network", "fvcore by operator"], fvcore))
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
