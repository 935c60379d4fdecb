// SPDX-License-Identifier: MIT
// The registered networks by name, and variants of them as JSON.
#pragma once

#include "core/outputs.h"
#include "graph/graph.h"

#include <mfres/status.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mfres {

struct NetworkFamily; // one per file of this folder; see family.h
class Settings;

/// A fully specified network: parsed from JSON, validated, immutable.
class Variant {
  public:
    /// The registered name ("mf-res2net") or the "name" of the JSON; for messages and reports.
    const std::string& name() const { return name_; }
    /// Canonical JSON text with every key present, sorted: equal variants give equal text.
    const std::string& json() const { return json_; }
    std::int64_t input_channels() const { return input_channels_; }
    /// Output channels.
    std::int64_t classes() const { return classes_; }
    /// What they are. "outputs": "regions" in the JSON stands for three channels in place of the four classes.
    Outputs outputs() const { return outputs_; }
    /// Classes that labels tell apart: classes(), or with regions 4.
    std::int64_t label_classes() const { return outputs_ == Outputs::regions ? classes_of_regions : classes_; }
    /// Spatial input edges must be multiples of this.
    std::int64_t multiple() const { return multiple_; }
    /// True if every value equals that of the registered network, so that its published figures apply.
    bool standard() const { return standard_; }
    const NetworkFamily& family() const { return *family_; }
    const Settings& settings() const { return *settings_; }

  private:
    friend Result<Variant> parse_variant(std::string_view name_or_json);
    std::string name_;
    std::string json_;
    std::int64_t input_channels_ = 4;
    std::int64_t classes_ = 4;
    Outputs outputs_ = Outputs::classes;
    std::int64_t multiple_ = 16;
    bool standard_ = true;
    const NetworkFamily* family_ = nullptr;
    std::shared_ptr<const Settings> settings_;
};

/// A registered name, or JSON text of an object with "network": "<registered name>" and any keys that differ from it.
/// Every network has "outputs", "classes" (the default, which the canonical JSON leaves out) or "regions".
/// Errors: network_unknown (lists the names), json_invalid, variant_invalid (JSON path, value, what is allowed).
Result<Variant> parse_variant(std::string_view name_or_json);

/// Builds the graph for an input [batch, input_channels, size x, size y, size z]. Its only output are the logits (no
/// softmax). Errors: invalid_argument (a size that is not a multiple of Variant::multiple()), graph_invalid.
Result<Graph> build_network(const Variant& variant, const Axes& size, std::int64_t batch = 1);

/// Names of all registered networks; those of the paper's Table 2 come first, in its order.
std::vector<std::string> network_names();

} // namespace mfres
