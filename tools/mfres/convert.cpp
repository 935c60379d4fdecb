// SPDX-License-Identifier: MIT
#include "core/json_value.h"
#include "option_groups.h"
#include "run_and_print.h"
#include "train_display.h"

#include "core/file.h"
#include "core/format.h"
#include "core/try.h"
#include "exchange/onnx.h"
#include "exchange/state_dict.h"
#include "inference/calibrate.h"
#include "inference/compare.h"
#include "inference/predictor.h"
#include "model/metadata.h"
#include "train/export.h"
#include "train/weight_dtype.h"

#include <mfres/trainer.h>

#include <algorithm>
#include <iostream>
#include <set>

namespace mfres::cli {

namespace {

constexpr const char* about =
    "Brings models in and out. In: a model file of mfres, ONNX (.onnx), or weights under PyTorch's names in "
    "safetensors\n"
    "or a checkpoint (.pt, .pth; nothing in it is executed), or a checkpoint of mfres (.ckpt; its moving average where\n"
    "there is one). Out: a model file (.safetensors) or ONNX (.onnx).\n"
    "Foreign weights need --network and --modalities, and --mapping where names differ; every missing, extra or\n"
    "mis-shaped tensor is listed. The metadata of an imported model say that it wants its input prepared as mfres\n"
    "prepares it.";

constexpr const char* examples =
    "Examples:\n"
    "  mfres convert m.safetensors --out m.onnx --dynamic --fold\n"
    "  mfres convert m.safetensors --out m-opencv.onnx --dialect opencv --size 144,176,144\n"
    "  mfres convert m.onnx --out back.safetensors --verify BraTS19_CBICA_AAB_1\n"
    "  mfres convert dmfnet.pth --network dmfnet --modalities flair,t1ce,t1,t2 --mapping names.json \\\n"
    "      --out dmfnet.safetensors\n"
    "  mfres convert mf-res2net --out half.safetensors --dtype bf16\n"
    "  mfres convert runs/laptop/best.ckpt --out best.safetensors --dtype f16\n"
    "  mfres convert m.safetensors --out declared.safetensors --subsets \"t1ce,t2,flair;t1,t1ce,flair\" --min-component 1000\n"
    "  mfres convert m.safetensors --out m-int8.safetensors --calibrate FOLDER_OF_CASES --verify CASE\n\n"
    "A mapping is {\"rules\": [{\"match\": \"module\\\\.(.*)\", \"name\": \"$1\"}], \"ignore\": [\"aux\\\\..*\"]}.\n"
    "Of several rules that match a name, the first one in the list is applied, and no other.\n";

Options make_options() {
    Options options("convert INPUT --out FILE [--network NAME|FILE.json] [--mapping FILE.json]", about, examples);
    const std::string dtypes = "of convolution weights in a .safetensors: " + names_of(weight_dtypes) +
                               " (default int8 with --calibrate or if they are it already, else f32)";
    const std::string dialects = "of ONNX: " + names_of(onnx_dialects) + " (at most four axes, for a stock OpenCV)";
    // clang-format off
    options.add()
        ("input,i", po::value<std::string>()->required(), "model or weights: .safetensors, .ckpt, .onnx, .pt or .pth, or the name of weights that come with mfres")
        ("out,o", po::value<std::string>()->required(), "file to write: .safetensors or .onnx")
        ("network,n", po::value<std::string>(), "whose weights these are, where the file does not say: a registered network, or a variant as JSON")
        ("prefix", po::value<std::string>(), "of the names of tensors, taken off before the mapping, or the checkpoint's entry that holds them: module")
        ("modalities", po::value<std::string>(), "contrasts of the input channels, in the order that foreign weights were trained with: flair,t1ce,t1,t2")
        ("mapping", po::value<std::string>(), "JSON file of regular expressions that rename tensors")
        ("dtype", po::value<std::string>(), dtypes.c_str())
        ("calibrate", po::value<std::string>(), "folder of cases, or training cache, to measure ranges of activations on, for int8")
        ("calibration", po::value<std::string>()->default_value("minmax"), "how ranges are chosen: minmax, percentile (all but 10^-4) or mse (least squared error)")
        ("calibration-cases", po::value<int>()->default_value(4), "that are used of the folder, evenly spread; 0 = all")
        ("keep", po::value<std::string>()->default_value("first,last"), "convolutions that stay in f32, separated by commas; none: quantize all")
        ("dialect", po::value<std::string>()->default_value("standard"), dialects.c_str())
        ("size", po::value<std::string>()->default_value("128"), "grid an ONNX file is written for: 128 or 144,176,144")
        ("dynamic", "free spatial axes in ONNX")
        ("fold", "fold BatchNorms into convolutions in ONNX")
        ("subsets", po::value<std::string>(), "subsets of the contrasts that the model accepts: none, all that training with modality dropout covers, or e.g. t1ce,t2,flair;t1,t1ce,flair")
        ("min-component", po::value<double>(), "mm^3: recommended for segment, evaluate and robustness; 0 = none")
        ("min-enhancing", po::value<double>(), "likewise")
        ("min-enhancing-share", po::value<double>(), "likewise, of the tumour core, e.g. 0.1: less enhancing tumour becomes necrotic core unless --min-enhancing of segment says otherwise")
        ("normalisation", po::value<std::string>(), "of intensities, where the file names another than the weights were trained with: zscore-brain-clipped for images that were clipped before")
        ("verify", po::value<std::string>(), "folder of a case: run the model and what was written, print what changed");
    // clang-format on
    add_inference_options(options); // for --verify and --calibrate
    add_accept_option(options);     // likewise
    add_output_options(options);
    options.positional("input");
    return options;
}

std::string extension(const std::filesystem::path& path) {
    std::string ending = path.extension().string();
    for (char& c : ending)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return ending;
}

Result<WeightDtype> weight_dtype(const Options& options, const Model& model) {
    if (options.has("dtype"))
        return parse_weight_dtype(options.get<std::string>("dtype"));
    const bool integers = options.has("calibrate") || model.metadata.quantization.int8_weights;
    return integers ? WeightDtype::int8 : WeightDtype::f32;
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

/// Which contrast each input channel is: as the file says, or for weights of other frameworks as --modalities does.
Status name_modalities(const Options& options, Model& model) {
    const std::string path = options.get<std::string>("input");
    std::vector<std::string>& channels = model.metadata.modalities;
    if (!channels.empty() && !options.has("modalities"))
        return {};
    const auto count = static_cast<std::size_t>(model.variant.input_channels());
    if (!options.has("modalities"))
        return Error{ErrorCode::model_metadata_invalid,
                     text(path, " does not say which contrast each of its ", count,
                          " input channels is; --modalities names them in the order the weights were trained with, for "
                          "example --modalities flair,t1ce,t1,t2"),
                     path};
    const std::vector<std::string> given = listed(options.get<std::string>("modalities"));
    const auto known = [](const std::string& word) {
        return std::any_of(modalities.begin(), modalities.end(), [&](Modality one) { return name(one) == word; });
    };
    const bool each_once = std::set<std::string>(given.begin(), given.end()).size() == given.size();
    if (given.size() != count || !each_once || !std::all_of(given.begin(), given.end(), known))
        return Error{ErrorCode::invalid_argument,
                     text("--modalities names each of ", count,
                          " channels once, of t1, t1ce, t2 and flair with commas "
                          "between, not '",
                          options.get<std::string>("modalities"), "'"),
                     "modalities"};
    if (!channels.empty() && channels != given)
        return Error{ErrorCode::model_metadata_invalid,
                     text(path, " says itself which contrast each channel is, and it is another order than that of "
                                "--modalities, which is for weights that do not say"),
                     path};
    channels = given;
    return {};
}

/// A model, and what a checkpoint of mfres tells about it besides.
struct Source {
    Model model;
    std::optional<ExportedModel> checkpoint;
};

Result<Source> as_source(Result<Model> model) {
    if (!model)
        return std::move(model).error();
    return Source{std::move(model).value(), {}};
}

Status check_network(const Model& model, const std::optional<Variant>& wanted, const std::string& path) {
    if (wanted && wanted->json() != model.variant.json())
        return Error{ErrorCode::model_metadata_invalid,
                     text(path, " holds ", model.variant.json(), ", --network asks for ", wanted->json()), path};
    return {};
}

Result<Source> read_mfres_checkpoint(const std::string& path, const std::optional<Variant>& wanted) {
    MFRES_TRY(const Checkpoint checkpoint, read_checkpoint(path));
    MFRES_TRY(CheckpointModel exported, exported_model(checkpoint));
    MFRES_CHECK(check_network(exported.model, wanted, path));
    return Source{std::move(exported.model), std::move(exported.facts)};
}

Result<Source> read_weights(const Options& options) {
    MFRES_TRY(const std::filesystem::path input, find_model(options.get<std::string>("input")));
    const std::string path = input.string();
    std::optional<Variant> variant;
    if (options.has("network")) {
        MFRES_TRY(const std::string network, network_text(options.get<std::string>("network")));
        MFRES_TRY(variant, parse_variant(network));
    }
    const std::string ending = extension(path);
    if (ending == ".onnx")
        return as_source(import_onnx(path, variant ? &*variant : nullptr));
    if (ending == ".pt" || ending == ".pth") {
        MFRES_TRY(StateDict tensors, read_torch_state(path, options.get_or_default<std::string>("prefix")));
        return as_source(adopted(options, variant, std::move(tensors), path, "pytorch checkpoint"));
    }
    if (ending == ".ckpt")
        return read_mfres_checkpoint(path, variant);
    if (ending != ".safetensors")
        return Error{ErrorCode::invalid_argument, text(path, " must end in .safetensors, .ckpt, .onnx, .pt or .pth"),
                     path};
    MFRES_TRY(const SafetensorsFile file, read_safetensors(path));
    if (!has_model_metadata(file.metadata)) {
        MFRES_TRY(StateDict tensors, read_safetensors_state(path));
        MFRES_TRY(tensors, without_prefix(std::move(tensors), options.get_or_default<std::string>("prefix"), path));
        return as_source(adopted(options, variant, std::move(tensors), path, "safetensors"));
    }
    MFRES_TRY(Model model, decode_model(file));
    MFRES_CHECK(check_network(model, variant, path));
    return Source{std::move(model), {}};
}

Result<Source> read_model(const Options& options) {
    MFRES_TRY(Source source, read_weights(options));
    MFRES_CHECK(name_modalities(options, source.model));
    return source;
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
    MFRES_TRY(calibration.method, parse_calibration_method(options.get<std::string>("calibration")));
    if (options.get<std::string>("keep") == "none")
        calibration.keep.clear();
    else
        calibration.keep = listed(options.get<std::string>("keep"));
    MFRES_TRY(calibration.compute, compute_options(options));
    MFRES_TRY(calibration.accept, accepted_checks(options));
    MFRES_TRY(model.metadata.quantization,
              mfres::calibrate(model, box_sources(chosen), calibration, display.progress()));
    return {};
}

/// What the user declares about a model.
Status declare(const Options& options, Source& source) {
    ModelMetadata& metadata = source.model.metadata;
    if (options.has("subsets")) {
        MFRES_TRY(metadata.modality_subsets, parse_subsets(options.get<std::string>("subsets")));
        if (source.checkpoint)
            source.checkpoint->warnings.clear(); // which ask for that
    }
    if (options.has("min-component"))
        metadata.postprocessing.min_component_mm3 = options.get<double>("min-component");
    if (options.has("min-enhancing"))
        metadata.postprocessing.min_enhancing_mm3 = options.get<double>("min-enhancing");
    if (options.has("min-enhancing-share"))
        metadata.postprocessing.min_enhancing_share = options.get<double>("min-enhancing-share");
    if (options.has("normalisation")) {
        MFRES_TRY(metadata.normalisation, parse_normalisation(options.get<std::string>("normalisation")));
    }
    return check_sizes(metadata.postprocessing);
}

Status write_model(const Options& options, const Model& model, const std::filesystem::path& out) {
    const bool force = options.has("force");
    if (extension(out) == ".safetensors") {
        MFRES_TRY(const WeightDtype dtype, weight_dtype(options, model));
        return save_model(out, model, file_dtype(dtype), force);
    }
    OnnxExport onnx;
    MFRES_TRY(onnx.form.dialect, parse_onnx_dialect(options.get<std::string>("dialect")));
    onnx.form.dynamic = options.has("dynamic");
    onnx.fold = options.has("fold");
    MFRES_TRY(onnx.size, parse_size(options.get<std::string>("size")));
    return export_onnx(out, model, onnx, force);
}

Result<ModelComparison> verify(const Options& options, const Model& model, const std::filesystem::path& out) {
    MFRES_TRY(const CaseFiles files, find_case(options.get<std::string>("verify")));
    MFRES_TRY(const Model written, extension(out) == ".onnx" ? import_onnx(out) : load_model(out));
    MFRES_TRY(const ComputeOptions compute, compute_options(options));
    MFRES_TRY(const AcceptedChecks accepted, accepted_checks(options));
    return compare_models(model, written, files, compute, accepted);
}

Json result_json(const Source& source, const std::string& out, const std::optional<ModelComparison>& verified) {
    Json result{{"network", source.model.variant.name()},
                {"output", out},
                {"weights_sha256", source.model.metadata.weights_sha256}};
    if (const auto& checkpoint = source.checkpoint) {
        result["step"] = checkpoint->step;
        result["averaged"] = checkpoint->averaged;
        result["dice_wt_tc_et"] = checkpoint->dice ? Json(*checkpoint->dice) : Json();
        result["warnings"] = checkpoint->warnings;
    }
    if (verified)
        result["verify"] = {{"voxels", verified->voxels},
                            {"different_labels", verified->different},
                            {"label_agreement", verified->agreement()},
                            {"largest_difference", verified->largest_difference},
                            {"largest_logit", verified->largest_logit}};
    return result;
}

/// "best.safetensors: mf-res2net after 2000 steps, averaged weights, validation WT ..."
std::string result_line(const Source& source, const std::string& out) {
    std::string line = text(out, ": ", source.model.variant.name());
    if (const auto& checkpoint = source.checkpoint) {
        line += text(" after ", counted(checkpoint->step, "step"), checkpoint->averaged ? ", averaged weights" : "",
                     checkpoint->dice ? ", validation " + dice_words(*checkpoint->dice) : "");
        for (const std::string& warning : checkpoint->warnings)
            line += "\n  warning  " + warning;
    }
    return line;
}

void print(const Options& options, const Source& source, const std::string& out,
           const std::optional<ModelComparison>& verified) {
    confirm(options, result_json(source, out, verified), result_line(source, out));
    if (verified && !options.has("json"))
        std::cout << "verified: logits differ by " << verified->largest_difference << " at most (largest "
                  << verified->largest_logit << "), " << verified->different << " of " << verified->voxels
                  << " labels differ (" << 100.0 * verified->agreement() << " % agree)\n";
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
    const std::array<std::filesystem::path, 2> inputs = {options.get<std::string>("input"),
                                                         options.get_or_default<std::string>("mapping")};
    if (const auto apart = check_outputs_apart(std::array{OutputFile{"converted model", out}}, inputs); !apart)
        return fail(apart.error(), json);
    std::error_code ignored;
    if (!options.has("force") && std::filesystem::exists(out, ignored))
        return fail({ErrorCode::file_exists, text(out.string(), " exists already (--force overwrites)"), out.string()},
                    json);
    auto source = read_model(options);
    if (!source)
        return fail(source.error(), json);
    Model& model = source->model;
    if (const auto declared = declare(options, *source); !declared)
        return fail(declared.error(), json);
    if (options.has("calibrate")) {
        const auto calibrated =
            with_progress(options, [&](ProgressDisplay& display) { return calibrate(options, model, display); });
        if (!calibrated)
            return fail(calibrated.error(), json);
    }
    if (const auto written = write_model(options, model, out); !written)
        return fail(written.error(), json);
    std::optional<ModelComparison> comparison;
    if (options.has("verify")) {
        auto compared = verify(options, model, out);
        if (!compared)
            return fail(compared.error(), json);
        comparison = *compared;
    }
    print(options, *source, out.string(), comparison);
    return exit_ok;
}

} // namespace mfres::cli
