// SPDX-License-Identifier: MIT
#include "cli.h"

#include "core/file.h"
#include "core/try.h"
#include "exchange/onnx.h"
#include "exchange/state_dict.h"
#include "inference/calibrate.h"
#include "inference/compare.h"
#include "inference/predictor.h"
#include "model/metadata.h"

#include <nlohmann/json.hpp>

#include <iostream>
#include <sstream>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Brings models in and out. In: a model file of mfres, ONNX (.onnx), or weights under PyTorch's names in "
    "safetensors\n"
    "or a checkpoint (.pt, .pth; nothing in it is executed). Out: a model file (.safetensors) or ONNX (.onnx).\n"
    "Foreign weights need --network, and --mapping where names differ; every missing, extra or mis-shaped tensor is\n"
    "listed. The metadata of an imported model say that it wants its input prepared as mfres prepares it.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres convert m.safetensors --out m.onnx --dynamic --fold\n"
    "  mfres convert m.safetensors --out m-opencv.onnx --dialect opencv --size 144,176,144\n"
    "  mfres convert m.onnx --out back.safetensors --verify BraTS19_CBICA_AAB_1\n"
    "  mfres convert dmfnet.pth --network dmfnet --mapping names.json --out dmfnet.safetensors\n"
    "  mfres convert m.safetensors --out half.safetensors --store bf16\n"
    "  mfres convert m.safetensors --out declared.safetensors --subsets \"t1ce,t2,flair;t1,t1ce,flair\" --min-component 1000\n"
    "  mfres convert m.safetensors --out m-int8.safetensors --calibrate FOLDER_OF_CASES --verify CASE\n\n"
    "A mapping is {\"rules\": [{\"match\": \"module\\\\.(.*)\", \"name\": \"$1\"}], \"ignore\": [\"aux\\\\..*\"]}.\n";

Options make_options() {
    Options options("convert INPUT --out FILE [--network NAME|FILE.json] [--mapping FILE.json]", about, examples);
    options.add()("input,i", po::value<std::string>()->required(),
                  "model or weights: .safetensors, .onnx, .pt or .pth")("out,o", po::value<std::string>()->required(),
                                                                        "file to write: .safetensors or .onnx")(
        "network,n", po::value<std::string>(),
        "whose weights these are, where the file does not say: a registered network, or a variant as JSON")(
        "prefix", po::value<std::string>(),
        "of the names of tensors, taken off before the mapping, or the checkpoint's entry that holds them: module")(
        "mapping", po::value<std::string>(), "JSON file of regular expressions that rename tensors")(
        "store", po::value<std::string>(),
        "convolution weights in a .safetensors as f32, f16, bf16 or int8; default: int8 with --calibrate or if they "
        "are it already, else f32")(
        "calibrate", po::value<std::string>(),
        "folder of cases, or training cache, to measure ranges of activations on, for int8")(
        "calibration", po::value<std::string>()->default_value("minmax"),
        "how ranges are chosen: minmax, percentile (all but 10^-4) or mse (least squared error)")(
        "calibration-cases", po::value<int>()->default_value(4), "that are used of the folder, evenly spread; 0 = all")(
        "keep", po::value<std::string>()->default_value("first,last"),
        "convolutions that stay in f32, separated by commas; none: quantize all")(
        "dialect", po::value<std::string>()->default_value("standard"),
        "of ONNX: standard, or opencv (at most four axes, for a stock OpenCV)")(
        "size", po::value<std::string>()->default_value("128"), "grid an ONNX file is written for, e.g. 144,176,144")(
        "dynamic", "free spatial axes in ONNX")("fold", "fold BatchNorms into convolutions in ONNX")(
        "verify", po::value<std::string>(), "folder of a case: run the model and what was written, print what changed")(
        "backend", po::value<std::string>()->default_value("auto"),
        "for --verify and --calibrate: auto, onednn, opencv or reference")(
        "threads", po::value<int>()->default_value(0), "for --verify and --calibrate: 0 = all processors")(
        "quiet,q", "no progress")("force", "overwrite an existing file")("json", "print the result as JSON");
    // clang-format off
    options.add()
        ("subsets", po::value<std::string>(), "subsets of the contrasts that the model accepts: none, all that training with modality dropout covers, or e.g. t1ce,t2,flair;t1,t1ce,flair")
        ("min-component", po::value<double>(), "mm^3: recommended for segment, evaluate and robustness; 0 = none")
        ("min-enhancing", po::value<double>(), "likewise");
    // clang-format on
    options.positional("input");
    return options;
}

std::string extension(const std::filesystem::path& path) {
    std::string ending = path.extension().string();
    for (char& c : ending)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return ending;
}

Result<Dtype> weight_dtype(const Options& options, const Model& model) {
    if (!options.has("store"))
        return options.has("calibrate") || model.metadata.quantization.int8_weights ? Dtype::i8 : Dtype::f32;
    const std::string name = options.get<std::string>("store");
    if (name == "int8")
        return Dtype::i8;
    if (name == "f32")
        return Dtype::f32;
    if (name == "f16")
        return Dtype::f16;
    if (name == "bf16")
        return Dtype::bf16;
    return Error{ErrorCode::invalid_argument, text("--store must be f32, f16, bf16 or int8, is '", name, "'"), "store"};
}

Result<NameMapping> mapping(const Options& options) {
    if (!options.has("mapping"))
        return NameMapping();
    const std::string path = options.get<std::string>("mapping");
    MFRES_TRY(const std::vector<std::byte> bytes, read_file(path, 1U << 20U));
    auto parsed = NameMapping::parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!parsed)
        return Error{parsed.error().code, text(path, ": ", parsed.error().message), path};
    return parsed;
}

Result<Model> adopted(const Options& options, const std::optional<Variant>& variant, StateDict tensors,
                      const std::string& path, std::string_view origin) {
    if (!variant)
        return Error{ErrorCode::model_metadata_invalid,
                     text(path, " does not say which network its weights are of; --network does"), path};
    MFRES_TRY(const NameMapping names, mapping(options));
    MFRES_TRY(tensors, names.apply(std::move(tensors), path));
    return adopt_weights(*variant, std::move(tensors), path, origin);
}

Result<Model> read_model(const Options& options) {
    const std::string path = options.get<std::string>("input");
    std::optional<Variant> variant;
    if (options.has("network")) {
        MFRES_TRY(const std::string network, network_text(options.get<std::string>("network")));
        MFRES_TRY(variant, parse_variant(network));
    }
    const std::string ending = extension(path);
    if (ending == ".onnx")
        return import_onnx(path, variant ? &*variant : nullptr);
    if (ending == ".pt" || ending == ".pth") {
        MFRES_TRY(StateDict tensors, read_torch_state(path, options.get_or_default<std::string>("prefix")));
        return adopted(options, variant, std::move(tensors), path, "pytorch checkpoint");
    }
    if (ending != ".safetensors")
        return Error{ErrorCode::invalid_argument, text(path, " must end in .safetensors, .onnx, .pt or .pth"), path};
    MFRES_TRY(const SafetensorsFile file, read_safetensors(path));
    if (!has_model_metadata(file.metadata)) {
        MFRES_TRY(StateDict tensors, read_safetensors_state(path));
        MFRES_TRY(tensors, without_prefix(std::move(tensors), options.get_or_default<std::string>("prefix"), path));
        return adopted(options, variant, std::move(tensors), path, "safetensors");
    }
    MFRES_TRY(Model model, decode_model(file));
    if (variant && variant->json() != model.variant.json())
        return Error{ErrorCode::model_metadata_invalid,
                     text(path, " holds ", model.variant.json(), ", --network asks for ", variant->json()), path};
    return model;
}

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> parts;
    std::istringstream stream(list);
    for (std::string part; std::getline(stream, part, ',');)
        parts.push_back(part);
    return parts;
}

/// Ranges from the folder's cases; those that a model brought along are replaced.
Status calibrate(const Options& options, Model& model, ProgressDisplay& display) {
    MFRES_TRY(const CaseSet all, CaseSet::find(options.get<std::string>("calibrate")));
    const int wanted = options.get<int>("calibration-cases");
    if (wanted < 0)
        return Error{ErrorCode::invalid_argument, text("--calibration-cases is ", wanted, ", must be 0 or more"),
                     "calibration-cases"};
    const CaseSet chosen = all.spread(wanted == 0 ? all.size() : static_cast<std::size_t>(wanted));
    CalibrationOptions calibration;
    calibration.method = options.get<std::string>("calibration");
    if (options.get<std::string>("keep") == "none")
        calibration.keep.clear();
    else
        calibration.keep = split(options.get<std::string>("keep"));
    calibration.threads = options.get<int>("threads");
    MFRES_TRY(model.metadata.quantization,
              mfres::calibrate(model, box_sources(chosen), options.get<std::string>("backend"), calibration,
                               [&](std::string_view stage, double done) { return display.update(stage, done); }));
    return {};
}

/// What the user declares about a model.
Status declare(const Options& options, ModelMetadata& metadata) {
    if (options.has("subsets")) {
        MFRES_TRY(metadata.modality_subsets, parse_subsets(options.get<std::string>("subsets")));
    }
    if (options.has("min-component"))
        metadata.postprocessing.min_component_mm3 = options.get<double>("min-component");
    if (options.has("min-enhancing"))
        metadata.postprocessing.min_enhancing_mm3 = options.get<double>("min-enhancing");
    return check_sizes(metadata.postprocessing);
}

Status write_model(const Options& options, const Model& model, const std::filesystem::path& out) {
    const bool force = options.has("force");
    if (extension(out) == ".safetensors") {
        MFRES_TRY(const Dtype dtype, weight_dtype(options, model));
        return save_model(out, model, dtype, force);
    }
    OnnxExport onnx;
    MFRES_TRY(onnx.form.dialect, onnx_dialect(options.get<std::string>("dialect")));
    onnx.form.dynamic = options.has("dynamic");
    onnx.fold = options.has("fold");
    MFRES_TRY(onnx.size, parse_size(options.get<std::string>("size")));
    return export_onnx(out, model, onnx, force);
}

Result<ModelComparison> verify(const Options& options, const Model& model, const std::filesystem::path& out) {
    MFRES_TRY(const CaseFiles files, find_case(options.get<std::string>("verify")));
    MFRES_TRY(const Model written, extension(out) == ".onnx" ? import_onnx(out) : load_model(out));
    return compare_models(model, written, files, options.get<std::string>("backend"), options.get<int>("threads"));
}

void print(const Options& options, const Model& model, const std::string& out,
           const std::optional<ModelComparison>& comparison) {
    if (options.has("json")) {
        nlohmann::json result{
            {"network", model.variant.name()}, {"output", out}, {"weights_sha256", model.metadata.weights_sha256}};
        if (comparison)
            result["verify"] = {{"voxels", comparison->voxels},
                                {"different_labels", comparison->different},
                                {"label_agreement", comparison->agreement()},
                                {"largest_difference", comparison->largest_difference},
                                {"largest_logit", comparison->largest_logit}};
        std::cout << result.dump(2) << '\n';
        return;
    }
    std::cout << out << ": " << model.variant.name() << '\n';
    if (comparison)
        std::cout << "verified: logits differ by " << comparison->largest_difference << " at most (largest "
                  << comparison->largest_logit << "), " << comparison->different << " of " << comparison->voxels
                  << " labels differ (" << 100.0 * comparison->agreement() << " % agree)\n";
}

} // namespace

int convert(const std::vector<std::string>& arguments) {
    Options options = make_options();
    if (const auto done = options.parse(arguments))
        return *done;
    const bool json = options.has("json");
    const std::filesystem::path out = options.get<std::string>("out");
    const std::string ending = extension(out);
    if (ending != ".safetensors" && ending != ".onnx")
        return usage_error("--out must end in .safetensors or .onnx");
    if (options.has("verify") && ending == ".onnx" && options.get<std::string>("dialect") != "standard")
        return usage_error("--verify reads the written file back, which works for the standard dialect only");
    if (options.has("calibrate") && ending == ".onnx")
        return usage_error("--calibrate is for model files of mfres (.safetensors): ONNX is written in f32");
    std::error_code ignored;
    if (!options.has("force") && std::filesystem::exists(out, ignored))
        return fail({ErrorCode::file_exists, text(out.string(), " exists already (--force overwrites)"), out.string()},
                    json);
    auto model = read_model(options);
    if (!model)
        return fail(model.error(), json);
    if (options.has("calibrate")) {
        watch_signals();
        ProgressDisplay display(options.has("quiet"));
        const auto calibrated = calibrate(options, *model, display);
        display.clear();
        if (!calibrated)
            return fail(calibrated.error(), json);
    }
    if (const auto declared = declare(options, model->metadata); !declared)
        return fail(declared.error(), json);
    if (const auto written = write_model(options, *model, out); !written)
        return fail(written.error(), json);
    std::optional<ModelComparison> comparison;
    if (options.has("verify")) {
        auto compared = verify(options, *model, out);
        if (!compared)
            return fail(compared.error(), json);
        comparison = *compared;
    }
    print(options, *model, out.string(), comparison);
    return exit_ok;
}

} // namespace mfres::cli
