// The networks of the project by name, and variants of them as JSON.
#pragma once

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

/// A network with every width decided: parsed from JSON, validated, immutable, cheap to copy.
class Variant {
  public:
    /// Registry name ("mf-res2net") or the "name" a user's JSON gave; for messages and reports.
    const std::string& name() const { return name_; }
    /// Canonical JSON text with every key present, sorted: equal variants give equal text.
    const std::string& json() const { return json_; }
    std::int64_t input_channels() const { return input_channels_; }
    std::int64_t classes() const { return classes_; }
    /// Spatial input edges must be multiples of this.
    std::int64_t multiple() const { return multiple_; }
    /// True when every value is the registered network's own, so that figures published for it apply.
    bool standard() const { return standard_; }
    const NetworkFamily& family() const { return *family_; }
    const Settings& settings() const { return *settings_; }

  private:
    friend Result<Variant> parse_variant(std::string_view name_or_json);
    std::string name_;
    std::string json_;
    std::int64_t input_channels_ = 4;
    std::int64_t classes_ = 4;
    std::int64_t multiple_ = 16;
    bool standard_ = true;
    const NetworkFamily* family_ = nullptr;
    std::shared_ptr<const Settings> settings_;
};

/// A registered name, or JSON text of an object with "network": "<registered name>" and any keys that differ from it.
/// Errors: network_unknown (lists the names), json_invalid, variant_invalid (JSON path, value, what is allowed).
Result<Variant> parse_variant(std::string_view name_or_json);

/// Builds the graph for an input [batch, input_channels, size x, size y, size z] up to the logits (no softmax), its
/// only output. Errors: graph_invalid, for a size that is not a multiple of Variant::multiple() among others.
Result<Graph> build_network(const Variant& variant, const Axes& size, std::int64_t batch = 1);

/// Names of all registered networks in the order of the paper's Table 2 and after.
std::vector<std::string> network_names();

} // namespace mfres
