// SPDX-License-Identifier: MIT
// Options that are enums: every value has a name of its own, and every name leads back to its value.
#include "exchange/onnx.h"
#include "inference/calibrate.h"
#include "paper/experiment.h"
#include "support/catch.h"

#include <mfres/case.h>
#include <mfres/complexity.h>
#include <mfres/compute.h>
#include <mfres/metrics.h>
#include <mfres/normalisation.h>
#include <mfres/regions.h>
#include <mfres/segmenter.h>
#include <mfres/trainer.h>

#include <set>
#include <string>

using namespace mfres;

namespace {

template <typename Values, typename Parse>
void check_names(const Values& values, const Parse& parse) {
    std::set<std::string> names;
    const auto rejected = parse("no such name");
    REQUIRE_CODE(rejected, invalid_argument);
    CHECK(rejected.error().message.find("'no such name'") != std::string::npos);
    for (const auto value : values) {
        const std::string name(to_string(value));
        INFO(name);
        CHECK_FALSE(name.empty());
        CHECK(names.insert(name).second);
        const auto parsed = parse(name);
        REQUIRE_OK(parsed);
        CHECK(*parsed == value);
        CHECK(rejected.error().message.find(name) != std::string::npos);
    }
    REQUIRE_CODE(parse(""), invalid_argument);
}

} // namespace

TEST_CASE("names of enums lead back to their values, and an unknown name is told all of them") {
    check_names(precisions, parse_precision);
    check_names(wait_policies, parse_wait_policy);
    check_names(affine_sources, parse_affine_source);
    check_names(weight_dtypes, parse_weight_dtype);
    check_names(normalisations, parse_normalisation);
    check_names(region_definitions, parse_region_definition);
    check_names(empty_schemes, parse_empty_scheme);
    check_names(probability_formats, parse_probability_format);
    check_names(report_formats, parse_report_format);
    check_names(experiment_tables, parse_experiment_table);
    check_names(calibration_methods, parse_calibration_method);
    check_names(onnx_dialects, parse_onnx_dialect);
}

TEST_CASE("mirror axes are letters of xyz") {
    CHECK(parse_mirror_axes("").value() == MirrorAxes{false, false, false});
    CHECK(parse_mirror_axes("zx").value() == MirrorAxes{true, false, true});
    REQUIRE_CODE(parse_mirror_axes("w"), invalid_argument);
    REQUIRE_CODE(parse_mirror_axes("xx"), invalid_argument);
}
