// SPDX-License-Identifier: MIT
// The registered networks, their options, and their published figures.
#pragma once

#include <mfres/export.h>
#include <mfres/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

/// Dice of whole tumour, tumour core and enhancing tumour in per cent, as printed in a paper; not measured here.
struct PublishedDice {
    double whole_tumour = 0;
    double tumour_core = 0;
    double enhancing = 0;
};

/// Figures printed in a paper for input 1x4x128x128x128 and 4 classes; not measured here.
struct PublishedFigures {
    std::optional<double> parameters_m; ///< millions
    std::optional<double> flops_g;      ///< 10^9 operations
    std::optional<PublishedDice> dice;
    std::string source;
};

/// One key of a network's JSON.
struct NetworkOption {
    std::string key;
    std::string allowed;  ///< "a list of 1 to 6 integers from 1 to 4096"
    std::string standard; ///< the value used when the key is absent, as JSON
    std::string help;
};

/// A registered network.
struct NetworkInfo {
    std::string name;
    std::string summary;
    std::string status; ///< how the structure is known: exact, reconstruction, inferred, ...
    std::optional<PublishedFigures> published;
    std::vector<NetworkOption> options;
    std::string json; ///< the registered variant as canonical JSON
};

/// All registered networks; those of the paper's Table 2 come first.
MFRES_EXPORT std::vector<NetworkInfo> networks();

/// A validated network variant.
struct NetworkDescription {
    std::string name;                 ///< of the variant
    std::string network;              ///< the registered network it is derived from
    bool standard = true;             ///< equal to the registered network, so its published figures apply
    std::string json;                 ///< canonical: every key, sorted
    std::vector<std::string> changes; ///< options that differ from the registered network, "widths [8, 16]"
    std::int64_t input_channels = 0;
    std::int64_t classes = 0;
    std::int64_t multiple = 0; ///< input edges must be multiples of this
};

/// Checks a registered name or JSON text {"network": "<registered name>", ...} without building anything.
/// Errors: network_unknown, json_invalid, variant_invalid (names JSON path, value and what is allowed).
MFRES_EXPORT Result<NetworkDescription> describe_network(std::string_view name_or_json);

} // namespace mfres
