// SPDX-License-Identifier: MIT
#include "selftest/record.h"

#include "core/file.h"
#include "core/json.h"
#include "core/try.h"

#include <mfres/regions.h>

#include <cmath>

namespace mfres::selftest {

namespace {

constexpr std::array<const char*, 3> class_keys{"ncr", "ed", "et"};

double rounded(double value) {
    return std::round(value * 1e4) / 1e4;
}

/// Throws what the JSON library throws where a key is missing or has another type.
Record record_of(const Json& json) {
    Record record{.seed = json.at("seed").get<std::uint64_t>(),
                  .weights_sha256 = json.at("weights_sha256").get<std::string>()};
    for (std::size_t i = 0; i < 3; ++i) {
        record.voxels[i] = json.at("voxels").at(class_keys[i]).get<std::int64_t>();
        record.dice[i] = json.at("dice").at(std::string(name(tumour_regions[i]))).get<double>();
    }
    return record;
}

} // namespace

std::filesystem::path record_path(const std::filesystem::path& model) {
    std::filesystem::path path = model;
    return path.replace_extension(".selftest.json");
}

std::string to_json(const Record& record) {
    OrderedJson json = {{"seed", record.seed}, {"weights_sha256", record.weights_sha256}};
    for (std::size_t i = 0; i < 3; ++i)
        json["voxels"][class_keys[i]] = record.voxels[i];
    for (std::size_t i = 0; i < 3; ++i)
        json["dice"][std::string(name(tumour_regions[i]))] = rounded(record.dice[i]);
    return json.dump(2) + "\n";
}

Result<Record> read_record(const std::filesystem::path& path) {
    auto bytes = read_file(path, 1U << 16U);
    if (!bytes && bytes.error().code == ErrorCode::file_not_found)
        return Error{ErrorCode::file_not_found,
                     text(path.string(), " is not there: what this model makes of the synthetic case is not known. "
                                         "'mfres selftest --record --model FILE' makes it"),
                     path.string()};
    if (!bytes)
        return std::move(bytes).error();
    const std::string_view source(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    MFRES_TRY(const Json json, parse_json(source, path.string()));
    try {
        return record_of(json);
    } catch (const Json::exception& error) {
        return Error{ErrorCode::json_invalid, text(path.string(), ": no record of a selftest: ", error.what()),
                     path.string()};
    }
}

Status check_record(const Record& measured, const Record& recorded, const std::string& where) {
    for (std::size_t i = 0; i < 3; ++i) {
        const auto expected = static_cast<double>(recorded.voxels[i]);
        if (std::abs(static_cast<double>(measured.voxels[i]) - expected) > 5.0 + 0.002 * expected)
            return Error{ErrorCode::internal,
                         text(where, ": ", measured.voxels[i], " voxels of ", class_keys[i], ", the record has ",
                              recorded.voxels[i]),
                         where};
        if (!(std::abs(measured.dice[i] - recorded.dice[i]) <= 0.002))
            return Error{ErrorCode::internal,
                         text(where, ": Dice of ", name(tumour_regions[i]), " is ", rounded(measured.dice[i]),
                              ", the record has ", recorded.dice[i]),
                         where};
    }
    return {};
}

} // namespace mfres::selftest
