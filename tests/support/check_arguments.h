// SPDX-License-Identifier: MIT
// Arguments that every backend has to reject, with the same error code and place.
#pragma once

#include "support/training.h"

#include <limits>
#include <string>
#include <vector>

namespace mfres::test {

/// A value that is rejected, and `where` of the error.
template <typename Value>
struct RejectedValue {
    std::string name;
    Value value;
    std::string where;
};

inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

// clang-format off
inline std::vector<RejectedValue<CompileOptions>> rejected_compile_options(const Backend& backend) {
    const auto range = [](double least, double most) {
        return ActivationRanges{{"c", {static_cast<float>(least), static_cast<float>(most)}}};
    };
    return {
        {"negative threads",        {.threads = -1},                  "threads"},
        {"4097 threads",            {.threads = 4097},                "threads"},
        {"a negative device",       {.device = -1},                   "device"},
        {"a device too many",       {.device = backend.devices()},    "device"},
        {"a descending range",      {.ranges = range(0.0, -1.0)},     "c"},
        {"a range with NaN",        {.ranges = range(nan, 1.0)},      "c"},
        {"a range without end",     {.ranges = range(0.0, infinity)}, "c"},
    };
}

inline std::vector<RejectedValue<TrainingOptions>> rejected_training_options(const Backend& backend) {
    return {
        {"negative threads",        {.threads = -1},                  "threads"},
        {"4097 threads",            {.threads = 4097},                "threads"},
        {"a negative momentum",     {.batch_norm_momentum = -0.01},   "batch_norm_momentum"},
        {"a momentum above 1",      {.batch_norm_momentum = 1.01},    "batch_norm_momentum"},
        {"a momentum of NaN",       {.batch_norm_momentum = nan},     "batch_norm_momentum"},
        {"a negative memory cap",   {.memory_cap = -1},               "memory_cap"},
        {"a case of -1 voxels",     {.largest_case = -1},             "largest_case"},
        {"buckets of -1 bytes",     {.bucket_bytes = -1},             "bucket_bytes"},
        {"a negative device",       {.device = -1},                   "device"},
        {"a device too many",       {.device = backend.devices()},    "device"},
    };
}

inline std::vector<RejectedValue<OptimiserStep>> rejected_optimiser_steps() {
    return {
        {"step 0",                    {.step = 0},                    "step"},
        {"a negative learning rate",  {.learning_rate = -1e-3},       "learning_rate"},
        {"a learning rate of NaN",    {.learning_rate = nan},         "learning_rate"},
        {"beta1 of 1",                {.beta1 = 1.0},                 "beta1"},
        {"a negative beta1",          {.beta1 = -0.1},                "beta1"},
        {"beta2 of 1",                {.beta2 = 1.0},                 "beta2"},
        {"beta2 of NaN",              {.beta2 = nan},                 "beta2"},
        {"a negative epsilon",        {.epsilon = -1e-8},             "epsilon"},
        {"a negative L2",             {.l2 = -1e-5},                  "l2"},
        {"an infinite clip norm",     {.clip_norm = infinity},        "clip_norm"},
    };
}

/// Classes of two voxels for logits of two channels.
inline std::vector<RejectedValue<std::vector<std::uint8_t>>> rejected_classes() {
    return {
        {"no classes",                {},                             "classes"},
        {"a class too few",           {0},                            "classes"},
        {"a class too many",          {0, 1, 0},                      "classes"},
        {"class 2 of two",            {0, 2},                         "classes"},
        {"class 255",                 {255, 1},                       "classes"},
    };
}
// clang-format on

template <typename Outcome>
void check_invalid(const std::string& name, const std::string& where, const Outcome& outcome) {
    INFO(name);
    REQUIRE_CODE(outcome, invalid_argument);
    CHECK(outcome.error().where == where);
}

/// Two voxels of one channel; logits of two channels.
inline Graph two_voxels(int outputs = 1) {
    GraphBuilder builder;
    const NodeId x = builder.input(Shape{1, 1, 1, 1, 2});
    const NodeId y = builder.batch_norm("bn", builder.conv("c", x, Conv{.out_channels = 2, .bias = true}));
    builder.output(y);
    if (outputs == 2)
        builder.output(builder.slice("r", y, 0, 1)); // of other channels
    auto graph = builder.finish();
    REQUIRE_OK(graph);
    return std::move(graph).value();
}

inline void check_rejected_arguments(const Backend& backend) {
    const Graph graph = two_voxels();
    const Weights weights = random_weights(graph, 1);
    for (const auto& rejected : rejected_compile_options(backend))
        check_invalid(rejected.name, rejected.where, backend.compile(graph, weights, rejected.value));
    for (const auto& rejected : rejected_training_options(backend))
        check_invalid(rejected.name, rejected.where, backend.compile_training(graph, weights, rejected.value));

    REQUIRE_CODE(backend.compile(graph, {}, {}), model_tensor_missing);
    REQUIRE_CODE(backend.compile(graph, weights, {.precision = Precision::int8}), operation_unsupported); // no ranges
    REQUIRE_CODE(backend.compile_training(graph, weights, {.precision = Precision::int8}), operation_unsupported);
    REQUIRE_CODE(backend.compile_training(two_voxels(2), weights, {}), graph_invalid);
    REQUIRE_CODE(backend.compile_training(graph, {}, {}), model_tensor_missing);

    const auto executable = backend.compile(graph, weights, {});
    REQUIRE_OK(executable);
    REQUIRE_OK((*executable)->run());
    std::vector<std::uint8_t> labels(3);
    REQUIRE_CODE((*executable)->labels(0, labels, 1), invalid_argument);
}

/// The same for a backend that trains: nothing is changed by what is rejected.
inline void check_rejected_training_arguments(const Backend& backend) {
    const Graph graph = two_voxels();
    const auto training = compile_training(backend, graph, random_weights(graph, 1));
    copy(view(random_tensor(graph.node(0).shape, 2)), training->input());
    REQUIRE_OK(training->forward());
    const Loss loss = [](std::span<const ClassSums> sums) {
        return LossValue{sums[0].probability, {{0.0, 1.0, 0.0}, {0.0, 0.0, 0.0}}};
    };
    for (const auto& rejected : rejected_classes())
        check_invalid(rejected.name, rejected.where, training->loss(rejected.value, loss));
    REQUIRE_OK(training->loss(std::vector<std::uint8_t>{0, 1}, loss));
    REQUIRE_OK(training->backward());
    const TrainingState before = training->state();
    for (const auto& rejected : rejected_optimiser_steps())
        check_invalid(rejected.name, rejected.where, training->update(rejected.value));
    CHECK(same_bits(training->state(), before));
    REQUIRE_OK(training->update({}));
}

} // namespace mfres::test
