// SPDX-License-Identifier: MIT
#include "model/quantization_record.h"

#include "core/try.h"
#include "model/safetensors.h"
#include "networks/schema.h"

#include <cmath>

namespace mfres {

namespace {

constexpr const char* key = "mfres.quantisation";
constexpr double largest_value = 1e30; // above it the scale of a sum could overflow a float

Error invalid(const std::string& problem) {
    return {ErrorCode::model_metadata_invalid, text("metadata ", key, ": ", problem), key};
}

Result<ActivationRange> range_of(const std::string& name, const Json& pair) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number() || !pair[1].is_number())
        return invalid(text("the range of '", printable(name), "' is not [least, most]"));
    const double least = pair[0].get<double>();
    const double most = pair[1].get<double>();
    if (!(least <= 0.0 && most >= 0.0 && least >= -largest_value && most <= largest_value))
        return invalid(text("the range of '", printable(name), "' is ", least, " to ", most,
                            "; least must be 0 or below, most 0 or above, both within 1e30"));
    return ActivationRange{static_cast<float>(least), static_cast<float>(most)};
}

} // namespace

Result<QuantizationRecord> quantization_from_json(const std::string& json) {
    const auto parsed = parse_strict(json, "quantization");
    if (!parsed)
        return invalid(printable(parsed.error().message));
    const Json& object = *parsed;
    if (!object.is_object() || object.size() != 4)
        return invalid("needs the keys calibration, cases, weights and ranges, and no others");
    for (const char* name : {"calibration", "cases", "weights", "ranges"})
        if (!object.contains(name))
            return invalid(text("'", name, "' is missing"));
    QuantizationRecord record;
    const Json& calibration = object["calibration"];
    if (calibration != "minmax" && calibration != "percentile" && calibration != "mse")
        return invalid("calibration must be minmax, percentile or mse");
    record.calibration = calibration.get<std::string>();
    const Json& cases = object["cases"];
    if (!cases.is_number_integer() || cases < 1 || cases > 1000000)
        return invalid("cases must be a whole number from 1 to 1000000");
    record.cases = cases.get<int>();
    const Json& weights = object["weights"];
    if (weights != "float" && weights != "int8")
        return invalid("weights must be float or int8");
    record.int8_weights = weights == "int8";
    if (!object["ranges"].is_object() || object["ranges"].empty())
        return invalid("ranges must be an object with at least one convolution");
    for (const auto& [name, pair] : object["ranges"].items()) {
        MFRES_TRY(const ActivationRange range, range_of(name, pair));
        record.ranges.emplace(name, range);
    }
    return record;
}

std::string to_json(const QuantizationRecord& record) {
    Json ranges = Json::object();
    for (const auto& [name, range] : record.ranges)
        ranges[name] = {range.least, range.most};
    return Json{{"calibration", record.calibration},
                {"cases", record.cases},
                {"weights", record.int8_weights ? "int8" : "float"},
                {"ranges", ranges}}
        .dump();
}

} // namespace mfres
