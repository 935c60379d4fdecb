// SPDX-License-Identifier: MIT
#include "train/teachers.h"

#include "core/parallel.h"
#include "core/tensor.h"
#include "core/try.h"
#include "imaging/labels.h"
#include "model/find_model.h"
#include "model/model.h"

#include <cmath>

namespace mfres {

namespace {

/// Calls body(n, x, y, z) for every voxel of [batch, channel, x, y, z], on several threads.
template <typename Body>
void for_voxels(const Shape& shape, int threads, const Body& body) {
    parallel_ranges(shape[0] * shape[2], threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t slab = begin; slab < end; ++slab)
            for (std::int64_t y = 0; y < shape[3]; ++y)
                for (std::int64_t z = 0; z < shape[4]; ++z)
                    body(slab / shape[2], slab % shape[2], y, z);
    });
}

double sigmoid(double logit) {
    return 1.0 / (1.0 + std::exp(-logit));
}

/// Adds share * softmax(logits), or that of the regions in which the classes are, to the sums.
void add_probabilities(const StridedView<const float>& logits, double share, int threads, Outputs outputs,
                       const StridedView<float>& sums) {
    const std::int64_t classes = logits.shape[1];
    for_voxels(logits.shape, threads, [&](std::int64_t n, std::int64_t x, std::int64_t y, std::int64_t z) {
        double most = double{logits.at(n, 0, x, y, z)};
        for (std::int64_t c = 1; c < classes; ++c)
            most = std::max(most, double{logits.at(n, c, x, y, z)});
        double sum = 0.0;
        for (std::int64_t c = 0; c < classes; ++c)
            sum += std::exp(double{logits.at(n, c, x, y, z)} - most);
        for (std::int64_t c = 0; c < classes; ++c) {
            const auto p = static_cast<float>(share * std::exp(double{logits.at(n, c, x, y, z)} - most) / sum);
            if (outputs == Outputs::classes) {
                sums.at(n, c, x, y, z) += p;
                continue;
            }
            for (std::int64_t r = 0; r < region_count; ++r)
                if (in_region(r, c))
                    sums.at(n, r, x, y, z) += p;
        }
    });
}

/// Adds share * sigmoid(logits) to the sums.
void add_regions(const StridedView<const float>& logits, double share, int threads, const StridedView<float>& sums) {
    for_voxels(logits.shape, threads, [&](std::int64_t n, std::int64_t x, std::int64_t y, std::int64_t z) {
        for (std::int64_t r = 0; r < region_count; ++r)
            sums.at(n, r, x, y, z) += static_cast<float>(share * sigmoid(double{logits.at(n, r, x, y, z)}));
    });
}

/// Probabilities to the power of 1 / temperature, over their sum.
void soften(double temperature, int threads, const StridedView<float>& targets) {
    const std::int64_t classes = targets.shape[1];
    for_voxels(targets.shape, threads, [&](std::int64_t n, std::int64_t x, std::int64_t y, std::int64_t z) {
        double sum = 0.0;
        for (std::int64_t c = 0; c < classes; ++c) {
            float& value = targets.at(n, c, x, y, z);
            value = static_cast<float>(std::pow(double{value}, 1.0 / temperature));
            sum += double{value};
        }
        for (std::int64_t c = 0; c < classes; ++c)
            targets.at(n, c, x, y, z) = static_cast<float>(double{targets.at(n, c, x, y, z)} / sum);
    });
}

/// The same of regions, each of which is one of two classes.
void soften_regions(double temperature, int threads, const StridedView<float>& targets) {
    for_voxels(targets.shape, threads, [&](std::int64_t n, std::int64_t x, std::int64_t y, std::int64_t z) {
        for (std::int64_t r = 0; r < region_count; ++r) {
            float& value = targets.at(n, r, x, y, z);
            const double inside = std::pow(double{value}, 1.0 / temperature);
            const double outside = std::pow(std::max(0.0, 1.0 - double{value}), 1.0 / temperature);
            value = static_cast<float>(inside / (inside + outside));
        }
    });
}

Result<Model> load_teacher(const std::filesystem::path& path, Outputs outputs) {
    MFRES_TRY(Model model, load_named_model(path));
    const ModelMetadata standard;
    const auto rejected = [&](const std::string& problem) {
        return Error{ErrorCode::invalid_argument, text(path.string(), " cannot teach: it ", problem), "teacher"};
    };
    if (model.metadata.modalities != standard.modalities)
        return rejected("takes other input than training gives: t1, t1ce, t2 and flair");
    if (model.variant.label_classes() != tumour_classes)
        return rejected(
            text("tells ", model.variant.classes(), " classes apart; training needs ", std::int64_t{tumour_classes}));
    if (outputs == Outputs::classes && model.variant.outputs() == Outputs::regions)
        return rejected("tells regions, which need not be nested, and the network that is trained tells classes");
    return model;
}

void append_hash(std::string& all, const Model& model) {
    all += (all.empty() ? "" : ",") + model.metadata.weights_sha256;
}

} // namespace

Result<std::string> teachers_sha256(const std::vector<std::filesystem::path>& models, Normalisation normalisation,
                                    Outputs outputs) {
    std::string all;
    for (const std::filesystem::path& path : models) {
        MFRES_TRY(const Model model, load_teacher(path, outputs));
        if (model.metadata.normalisation != normalisation)
            return Error{ErrorCode::invalid_argument,
                         text(path.string(), " cannot teach: its input is normalised by ",
                              to_string(model.metadata.normalisation), ", that of the training by ",
                              to_string(normalisation)),
                         "teacher"};
        append_hash(all, model);
    }
    return all;
}

Result<Teachers> Teachers::open(const std::vector<std::filesystem::path>& models, const Backend& backend,
                                const TeacherPlace& place) {
    Teachers teachers;
    teachers.outputs_ = place.outputs;
    teachers.threads_ = resolve_threads(place.threads);
    for (const std::filesystem::path& path : models) {
        MFRES_TRY(const Model model, load_teacher(path, place.outputs));
        append_hash(teachers.sha256_, model);
        MFRES_TRY(const Graph graph, build_network(model.variant, place.crop, place.batch));
        MFRES_TRY(auto executable,
                  backend.compile(graph, model.weights, {.threads = place.threads, .device = place.device}));
        teachers.teachers_.push_back({std::move(executable), model.variant.outputs()});
    }
    return teachers;
}

Status Teachers::predict(const StridedView<const float>& images, double temperature, const StridedView<float>& targets,
                         const MirrorAxes& mirror) const {
    for_voxels(targets.shape, threads_, [&](std::int64_t n, std::int64_t x, std::int64_t y, std::int64_t z) {
        for (std::int64_t c = 0; c < targets.shape[1]; ++c)
            targets.at(n, c, x, y, z) = 0.0F;
    });
    const double share = 1.0 / static_cast<double>(teachers_.size());
    for (const auto& [executable, outputs] : teachers_) {
        copy(mirrored(images, mirror), executable->input());
        MFRES_CHECK(executable->run());
        const auto logits = mirrored(executable->output(0), mirror);
        if (outputs == Outputs::regions)
            add_regions(logits, share, threads_, targets);
        else
            add_probabilities(logits, share, threads_, outputs_, targets);
    }
    if (temperature != 1.0 && outputs_ == Outputs::regions)
        soften_regions(temperature, threads_, targets);
    else if (temperature != 1.0)
        soften(temperature, threads_, targets);
    return {};
}

} // namespace mfres
