// SPDX-License-Identifier: MIT
// What a model makes of the synthetic case: the file m.selftest.json beside m.safetensors, a JSON object with exactly the
// keys
//   seed              of the phantom
//   weights_sha256    as in the model file
//   voxels            {"ncr": n, "ed": n, "et": n}
//   dice              {"WT": d, "TC": d, "ET": d}, with four decimals
#pragma once

#include <mfres/status.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

namespace mfres::selftest {

struct Record {
    std::uint64_t seed = 1;
    std::string weights_sha256;
    std::array<std::int64_t, 3> voxels{}; ///< of the classes 1, 2, 3
    std::array<double, 3> dice{};         ///< of WT, TC, ET
};

/// Where the record of a model file lies.
std::filesystem::path record_path(const std::filesystem::path& model);

std::string to_json(const Record& record);

/// Errors: file_not_found (says how to make it), json_invalid for anything but such an object, and those of read_file.
Result<Record> read_record(const std::filesystem::path& path);

/// Whether a measurement is that of the record, to within 0.002 of Dice, and 0.2 % and 5 voxels of each class. Error:
/// internal, naming `where`, the value and what it should be.
Status check_record(const Record& measured, const Record& recorded, const std::string& where);

} // namespace mfres::selftest
