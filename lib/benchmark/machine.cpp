// SPDX-License-Identifier: MIT
// Machines as JSON and text, and those that are known by their data sheets.
#include <mfres/machine.h>

#include "core/file.h"
#include "core/format.h"
#include "core/guard.h"
#include "core/json.h"
#include "core/names.h"

#include <algorithm>
#include <cmath>

namespace mfres {

namespace {

constexpr auto class_names = enum_names<OpClass>({{OpClass::pointwise, "pointwise"},
                                                  {OpClass::planar, "planar"},
                                                  {OpClass::cubic, "cubic"},
                                                  {OpClass::strided, "strided"},
                                                  {OpClass::fusion_group, "fusion_group"},
                                                  {OpClass::resampling, "resampling"},
                                                  {OpClass::elementwise, "elementwise"}});
constexpr auto bound_names =
    enum_names<OpBound>({{OpBound::compute, "compute"}, {OpBound::memory, "memory"}, {OpBound::overhead, "overhead"}});

constexpr std::uint64_t max_file_bytes = std::uint64_t{16} << 20U;
constexpr std::int64_t file_version = 1;

/// Reads the values of a machine's JSON; remembers the first problem.
class Reader {
  public:
    explicit Reader(std::string file) : file_(std::move(file)) {}

    const Json& array(const Json& json, const char* key) {
        static const Json none = Json::array();
        const auto found = json.find(key);
        if (found != json.end() && found->is_array())
            return *found;
        fail(text("/", key, " is no list"));
        return none;
    }
    double number(const Json& json, const char* key, double least) {
        const auto found = json.find(key);
        if (found != json.end() && found->is_number() && found->get<double>() >= least &&
            std::isfinite(found->get<double>()))
            return found->get<double>();
        fail(text(key, " is no number from ", least));
        return least;
    }
    std::int64_t integer(const Json& json, const char* key, std::int64_t least) {
        const auto found = json.find(key);
        if (found != json.end() && found->is_number_integer() && found->get<std::int64_t>() >= least)
            return found->get<std::int64_t>();
        fail(text(key, " is no integer from ", least));
        return least;
    }
    int threads(const Json& json) {
        const std::int64_t threads = integer(json, "threads", 1);
        if (threads <= 4096)
            return static_cast<int>(threads);
        fail(text("threads is ", threads, ", allowed is 1 to 4096"));
        return 1;
    }
    std::string words(const Json& json, const char* key) {
        const auto found = json.find(key);
        if (found != json.end() && found->is_string())
            return found->get<std::string>();
        fail(text(key, " is no text"));
        return {};
    }
    Precision precision(const Json& json) {
        const auto parsed = parse_precision(words(json, "precision"));
        if (!parsed)
            fail(parsed.error().message);
        return parsed ? *parsed : Precision::f32;
    }
    OpClass op_class(const Json& json) {
        const auto parsed = parse_op_class(words(json, "class"));
        if (!parsed)
            fail(parsed.error().message);
        return parsed ? *parsed : OpClass::elementwise;
    }
    void fail(const std::string& problem) {
        if (problem_.empty())
            problem_ = problem;
    }
    Status done() const {
        if (problem_.empty())
            return {};
        return Error{
            ErrorCode::invalid_argument,
            text(file_, " is no machine that mfres probe wrote: ", problem_, "; make it anew with mfres probe --out"),
            file_};
    }

  private:
    std::string file_;
    std::string problem_;
};

Result<Machine> machine_of(const Json& json, const std::string& file) {
    Reader read(file);
    Machine machine;
    if (!json.is_object())
        read.fail("it is no object");
    else if (read.integer(json, "mfres_machine", 1) != file_version)
        read.fail("it has another version");
    MFRES_CHECK(read.done());
    machine.name = read.words(json, "name");
    machine.source = read.words(json, "source");
    machine.backend = read.words(json, "backend");
    machine.engine = read.words(json, "engine");
    machine.measured = json.value("measured", false);
    machine.cores = static_cast<int>(std::min<std::int64_t>(read.integer(json, "cores", 1), 1 << 20));
    for (const Json& entry : read.array(json, "peaks"))
        machine.peaks.push_back({read.precision(entry), read.threads(entry), read.number(entry, "gmacs", 0.0)});
    for (const Json& entry : read.array(json, "copies"))
        machine.copies.push_back(
            {read.threads(entry), read.integer(entry, "bytes", 1), read.number(entry, "gigabytes_per_second", 0.0)});
    for (const Json& entry : read.array(json, "overheads"))
        machine.overheads.push_back({read.threads(entry), read.number(entry, "microseconds", 0.0)});
    for (const Json& entry : read.array(json, "run_factors"))
        machine.run_factors.push_back({read.precision(entry), read.threads(entry), read.number(entry, "factor", 0.0)});
    for (const Json& entry : read.array(json, "ops"))
        machine.ops.push_back({read.precision(entry),
                               read.threads(entry),
                               {read.op_class(entry), read.integer(entry, "macs", 0), read.integer(entry, "bytes", 1),
                                read.integer(entry, "channels", 1), read.integer(entry, "voxels", 1)},
                               read.number(entry, "ms", 0.0)});
    MFRES_CHECK(read.done());
    return machine;
}

/// Rates of a data sheet: all cores together, or one where the number of threads is chosen.
Machine from_data_sheet(std::string name, std::string source, int cores, std::vector<PeakRate> peaks,
                        double gigabytes_per_second) {
    Machine machine;
    machine.name = std::move(name);
    machine.source = std::move(source);
    machine.cores = cores;
    machine.peaks = std::move(peaks);
    // A data sheet tells bytes read or written; the rate does not grow with threads.
    machine.copies = {{1, std::int64_t{1} << 40U, gigabytes_per_second}};
    return machine;
}

} // namespace

std::string_view to_string(OpClass op_class) noexcept {
    return class_names.of(op_class);
}

Result<OpClass> parse_op_class(std::string_view text) {
    return class_names.parse("class of ops", text);
}

std::string_view to_string(OpBound bound) noexcept {
    return bound_names.of(bound);
}

std::vector<Machine> known_machines() {
    using enum Precision;
    // clang-format off
    return {
        from_data_sheet("raspberry-pi-5", "data sheet: Raspberry Pi 5 product brief (4 Cortex-A76 at 2.4 GHz, LPDDR4X-4267, 32 bits); Arm Cortex-A76 Software Optimization Guide (two 128-bit FMLA or SDOT a cycle)", 4, {{f32, 1, 19.2}, {fp16, 1, 38.4}, {int8, 1, 76.8}}, 17.1),
        from_data_sheet("xeon-8480+", "data sheet: Intel Xeon Platinum 8480+ (56 cores at 2.0 GHz base, DDR5-4800 in 8 channels); two AVX-512 FMA units a core, AMX not counted", 56, {{f32, 1, 64.0}, {bf16, 1, 128.0}, {int8, 1, 256.0}}, 307.2),
        from_data_sheet("a100-sxm-80gb", "data sheet: NVIDIA A100 80GB SXM, dense (FP32 19.5, BF16 and FP16 312 TFLOPS, INT8 624 TOPS, 2,039 GB/s)", 1, {{f32, 1, 9750.0}, {bf16, 1, 156000.0}, {fp16, 1, 156000.0}, {int8, 1, 312000.0}}, 2039.0),
        from_data_sheet("rtx-2080-ti", "data sheet: NVIDIA Turing Architecture Whitepaper, reference clocks (FP32 13.4, FP16 with sums in FP32 53.8 TFLOPS, INT8 215.2 TOPS, 616 GB/s)", 1, {{f32, 1, 6700.0}, {fp16, 1, 26900.0}, {int8, 1, 107600.0}}, 616.0),
        from_data_sheet("rtx-4090", "data sheet: NVIDIA Ada Architecture Whitepaper, dense (FP32 82.6, BF16 and FP16 with sums in FP32 165.2 TFLOPS, INT8 660.6 TOPS, 1,008 GB/s)", 1, {{f32, 1, 41300.0}, {bf16, 1, 82600.0}, {fp16, 1, 82600.0}, {int8, 1, 330300.0}}, 1008.0),
        from_data_sheet("h200-sxm", "data sheet: NVIDIA H200 SXM, dense, half of the rates with sparsity (FP32 67, BF16 and FP16 989 TFLOPS, INT8 1,979 TOPS, 4.8 TB/s)", 1, {{f32, 1, 33500.0}, {bf16, 1, 494500.0}, {fp16, 1, 494500.0}, {int8, 1, 989500.0}}, 4800.0),
    };
    // clang-format on
}

Result<Machine> find_machine(const std::string& name_or_file) {
    return guarded(name_or_file, [&]() -> Result<Machine> {
        std::string names;
        for (Machine& machine : known_machines()) {
            if (machine.name == name_or_file)
                return std::move(machine);
            names += (names.empty() ? "" : ", ") + machine.name;
        }
        auto bytes = read_file(name_or_file, max_file_bytes);
        if (!bytes && bytes.error().code == ErrorCode::file_not_found)
            return Error{ErrorCode::file_not_found,
                         text(name_or_file, " is neither a file nor a known machine; those are ", names), name_or_file};
        MFRES_CHECK(bytes);
        const std::string_view words(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        MFRES_TRY(const Json json, parse_json(words, name_or_file, {max_file_bytes, 8}));
        return machine_of(json, name_or_file);
    });
}

std::string to_json(const Machine& machine) {
    OrderedJson json{{"mfres_machine", file_version},
                     {"name", machine.name},
                     {"source", machine.source},
                     {"measured", machine.measured},
                     {"backend", machine.backend},
                     {"engine", machine.engine},
                     {"cores", machine.cores},
                     {"peaks", OrderedJson::array()},
                     {"copies", OrderedJson::array()},
                     {"overheads", OrderedJson::array()},
                     {"run_factors", OrderedJson::array()},
                     {"ops", OrderedJson::array()}};
    for (const PeakRate& peak : machine.peaks)
        json["peaks"].push_back(
            {{"precision", to_string(peak.precision)}, {"threads", peak.threads}, {"gmacs", peak.gmacs}});
    for (const CopyRate& copy : machine.copies)
        json["copies"].push_back(
            {{"threads", copy.threads}, {"bytes", copy.bytes}, {"gigabytes_per_second", copy.gigabytes_per_second}});
    for (const OpOverhead& overhead : machine.overheads)
        json["overheads"].push_back({{"threads", overhead.threads}, {"microseconds", overhead.microseconds}});
    for (const RunFactor& run : machine.run_factors)
        json["run_factors"].push_back(
            {{"precision", to_string(run.precision)}, {"threads", run.threads}, {"factor", run.factor}});
    for (const OpSample& sample : machine.ops)
        json["ops"].push_back({{"precision", to_string(sample.precision)},
                               {"threads", sample.threads},
                               {"class", to_string(sample.extents.op_class)},
                               {"macs", sample.extents.macs},
                               {"bytes", sample.extents.bytes},
                               {"channels", sample.extents.channels},
                               {"voxels", sample.extents.voxels},
                               {"ms", sample.ms}});
    return json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string to_text(const Machine& machine) {
    std::string all = machine.name + "\n  source    " + machine.source + "\n";
    if (machine.measured)
        all += "  backend   " + machine.backend + ", " + machine.engine + "\n";
    for (const PeakRate& peak : machine.peaks)
        all += format_classic("  peak      %s, %d threads: %.1f x 10^9 multiply-adds per second\n",
                              std::string(to_string(peak.precision)).c_str(), peak.threads, peak.gmacs);
    for (const CopyRate& copy : machine.copies)
        all += format_classic("  copies    %.3f MiB, %d threads: %.1f GB/s\n",
                              static_cast<double>(copy.bytes) / (1 << 20), copy.threads, copy.gigabytes_per_second);
    for (const OpOverhead& overhead : machine.overheads)
        all += format_classic("  overhead  %.2f microseconds an op, %d threads\n", overhead.microseconds,
                              overhead.threads);
    for (const RunFactor& run : machine.run_factors)
        all += format_classic("  runs      %s, %d threads: %.3f of the sum of ops\n",
                              std::string(to_string(run.precision)).c_str(), run.threads, run.factor);
    return all + format_classic("  ops       %zu timed\n", machine.ops.size());
}

} // namespace mfres
