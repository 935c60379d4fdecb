// SPDX-License-Identifier: MIT
// What a machine can do, measured once and stored, or as its data sheet says; and the time that a network takes on it.
//
//   auto machine = mfres::probe(ProbeOptions{.threads = {1, 2}});          // about a minute
//   auto time = mfres::predict_time("mf-res2net", {128, 128, 128}, 1, *machine, Precision::f32, 2);
//   std::cout << time->total_ms;
#pragma once

#include <mfres/complexity.h>
#include <mfres/compute.h>
#include <mfres/export.h>
#include <mfres/segmenter.h>
#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Multiply-adds in registers, all threads together.
struct PeakRate {
    Precision precision = Precision::f32;
    int threads = 1;
    double gmacs = 0.0; ///< 10^9 multiply-adds per second
};

/// Memory copies of a working set: bytes read and written together.
struct CopyRate {
    int threads = 1;
    std::int64_t bytes = 0; ///< of the working set, source and target
    double gigabytes_per_second = 0.0;
};

/// Time that an op takes however small it is.
struct OpOverhead {
    int threads = 1;
    double microseconds = 0.0;
};

/// Ops of one class have similar rates where their extents are similar.
enum class OpClass : std::uint8_t {
    pointwise,    ///< convolutions 1x1x1, and products of matrices
    planar,       ///< convolutions whose kernel has one extent of 1
    cubic,        ///< other convolutions of stride 1
    strided,      ///< convolutions of another stride
    fusion_group, ///< several ops that run as one
    resampling,
    elementwise, ///< everything else: bound by memory
};

inline constexpr std::array<OpClass, 7> op_classes = {OpClass::pointwise,  OpClass::planar,       OpClass::cubic,
                                                      OpClass::strided,    OpClass::fusion_group, OpClass::resampling,
                                                      OpClass::elementwise};

/// "pointwise", "planar", ...
MFRES_EXPORT std::string_view to_string(OpClass op_class) noexcept;
/// The inverse. Errors: invalid_argument, which lists the names.
MFRES_EXPORT Result<OpClass> parse_op_class(std::string_view text);

/// What the time of an op depends on.
struct OpExtents {
    OpClass op_class = OpClass::elementwise;
    std::int64_t macs = 0;
    std::int64_t bytes = 0;    ///< of operands, parameters and result, f32
    std::int64_t channels = 1; ///< of the result
    std::int64_t voxels = 1;   ///< of the result, or its positions
};

/// An op of a calibration network, timed as the backend runs it.
struct OpSample {
    Precision precision = Precision::f32;
    int threads = 1;
    OpExtents extents;
    double ms = 0.0;
};

struct Machine {
    std::string name;
    std::string source; ///< "measured ...", or the data sheet
    bool measured = false;
    std::string backend; ///< of a measured machine
    std::string engine;
    int cores = 1;
    std::vector<PeakRate> peaks;
    std::vector<CopyRate> copies;
    std::vector<OpOverhead> overheads;
    std::vector<OpSample> ops; ///< empty for a data sheet
};

struct ProbeOptions {
    std::string name = "this machine";
    std::string backend = "auto";
    std::vector<int> threads;          ///< empty: 1 and all processors of this process
    std::vector<Precision> precisions; ///< empty: those of f32, bf16 and int8 that the backend has here
    int runs = 9;                      ///< of each calibration network, 1 to 1000
};

/// Measures this machine: multiply-adds by precision, copies by working set, and every op of a few calibration networks,
/// of which the lower quartile of `runs` counts. Takes about a minute; other work on the machine makes it slower than it
/// is. Errors: those of compiling a network, invalid_argument, interrupted.
MFRES_EXPORT Result<Machine> probe(const ProbeOptions& options, const Progress& progress = {});

/// Machines by their data sheets, which are named in `source`: what they could do at most.
MFRES_EXPORT std::vector<Machine> known_machines();

/// A known machine by its name, or a file that `mfres probe` wrote. Errors: those of read_file, json_invalid,
/// invalid_argument (a file without the keys of a machine, or with impossible values).
MFRES_EXPORT Result<Machine> find_machine(const std::string& name_or_file);

MFRES_EXPORT std::string to_json(const Machine& machine);
MFRES_EXPORT std::string to_text(const Machine& machine);

/// What bounds an op.
enum class OpBound : std::uint8_t { compute, memory, overhead };
inline constexpr std::array<OpBound, 3> op_bounds = {OpBound::compute, OpBound::memory, OpBound::overhead};
/// "compute", "memory", "overhead"
MFRES_EXPORT std::string_view to_string(OpBound bound) noexcept;

struct PredictedOp {
    std::string name;
    OpExtents extents;
    double ms = 0.0;
    double roofline_ms = 0.0; ///< lower bound: multiply-adds at the peak rate or bytes at the copy rate
    OpBound bound = OpBound::memory;
};

struct PredictedTime {
    std::string machine;
    bool measured = false; ///< the machine; a prediction by a data sheet is the roofline's lower bound
    Precision precision = Precision::f32;
    int threads = 1;
    std::vector<PredictedOp> ops;
    double total_ms = 0.0;
    double roofline_ms = 0.0;
};

/// The time of one inference of a registered network or a JSON variant, without compiling it. Ops are those of the
/// inference form, in fusion groups. An op's time is interpolated between the samples of its class that are nearest in
/// multiply-adds per element, channels and voxels; without samples it is the larger of multiply-adds at the peak rate and
/// bytes at the copy rate, and the overhead of an op.
/// Errors: those of complexity; invalid_argument (threads < 1, or a precision that the machine has no rates of).
MFRES_EXPORT Result<PredictedTime> predict_time(std::string_view name_or_json, const std::array<std::int64_t, 3>& size,
                                                std::int64_t batch, const Machine& machine, Precision precision,
                                                int threads);

/// The same for the layers of a report as they are written, of an ONNX file say: nothing is fused.
MFRES_EXPORT Result<PredictedTime> predict_time(const ComplexityReport& report, const Machine& machine,
                                                Precision precision, int threads);

/// The ops of a prediction under the machine's roofs: operations per second against operations per byte. SVG.
MFRES_EXPORT std::string roofline_svg(const Machine& machine, const PredictedTime& prediction);

/// A report with predictions for its network as further tables and as "predictions" in JSON. CSV has none.
MFRES_EXPORT std::string render(const ComplexityReport& report, const std::vector<PredictedTime>& predictions,
                                ReportFormat format, bool per_layer = false);

} // namespace mfres
