// SPDX-License-Identifier: MIT
// Our files in other hands: Python's standard library, and the safetensors package that PyTorch users have.
#include "core/file.h"
#include "model/model.h"
#include "support/catch.h"
#include "support/paths.h"

#include <cstdlib>

using namespace mfres;

namespace {

bool run_python(const std::string& arguments) {
    return std::system(("python3 " + arguments + " >/dev/null 2>&1").c_str()) == 0;
}

/// Runs a script in `folder`; what it prints on failure becomes part of the test's message.
void require_script(const test::TemporaryFolder& folder, const std::string& script) {
    REQUIRE_OK(write_file_atomically(folder / "script.py", script));
    const std::string command = "cd '" + folder.path().string() + "' && python3 script.py >output.txt 2>&1";
    const int status = std::system(command.c_str());
    const auto output = read_file(folder / "output.txt", 1U << 20U);
    REQUIRE_OK(output);
    INFO(std::string(reinterpret_cast<const char*>(output->data()), output->size()));
    REQUIRE(status == 0);
}

Model small_model() {
    const auto variant =
        parse_variant(R"({"network":"mf-res2net","widths":[8,8],"decoder":[8,4],"units":[1,1],"decoder_units":[1,1]})");
    REQUIRE_OK(variant);
    auto model = init_model(*variant, 9);
    REQUIRE_OK(model);
    return std::move(model).value();
}

/// The description of weights_sha256 in sha256.h, followed with nothing but the standard library.
constexpr const char* recompute_hash = R"(
import hashlib, json, struct, sys
raw = open('model.safetensors', 'rb').read()
size = struct.unpack('<Q', raw[:8])[0]
assert size % 8 == 0
header = json.loads(raw[8:8 + size])
metadata = header.pop('__metadata__')
digest = hashlib.sha256()
for name in sorted(header, key=lambda n: n.encode()):
    entry = header[name]
    begin, end = entry['data_offsets']
    data = raw[8 + size + begin:8 + size + end]
    if entry['dtype'] == 'F16':
        count = len(data) // 2
        data = struct.pack('<%df' % count, *struct.unpack('<%de' % count, data))
    shape = entry['shape']
    digest.update(struct.pack('<Q', len(name.encode())) + name.encode())
    digest.update(struct.pack('<Q', len(shape)) + struct.pack('<%dQ' % len(shape), *shape))
    digest.update(data)
if digest.hexdigest() != metadata['mfres.weights_sha256']:
    sys.exit(digest.hexdigest() + ' is not ' + metadata['mfres.weights_sha256'])
)";

constexpr const char* read_and_write = R"(
import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
ours = load_file('model.safetensors')
half = load_file('half.safetensors')
assert set(ours) == set(half)
for name, value in ours.items():
    assert value.dtype == numpy.float32
    convolution = value.ndim == 5
    assert half[name].dtype == (numpy.float16 if convolution else numpy.float32), name
    assert numpy.array_equal(half[name], value.astype(half[name].dtype)), name
with safe_open('model.safetensors', 'np') as file:
    metadata = file.metadata()
assert metadata['mfres.modalities'] == 't1,t1ce,t2,flair'
save_file(ours, 'theirs.safetensors', metadata=metadata)
save_file({'f16': numpy.array([1.5, -65504, 6e-8], numpy.float16),
           'i8': numpy.array([[-128, 127]], numpy.int8),
           'scalar': numpy.array(0.25, numpy.float32),
           'step': numpy.array([2 ** 40], numpy.int64)}, 'mixed.safetensors', metadata={'who': 'numpy'})
)";

} // namespace

TEST_CASE("the recorded hash can be recomputed with Python's standard library") {
    if (!run_python("-c 'import hashlib'")) {
        std::printf("SKIPPED: there is no python3\n");
        return;
    }
    for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
        const test::TemporaryFolder folder;
        REQUIRE_OK(save_model(folder / "model.safetensors", small_model(), dtype));
        require_script(folder, recompute_hash);
    }
}

TEST_CASE("the safetensors package reads our files, and we read its files") {
    if (!run_python("-c 'import safetensors.numpy'")) {
        std::printf("SKIPPED: python3 has no safetensors package\n");
        return;
    }
    const test::TemporaryFolder folder;
    const Model model = small_model();
    REQUIRE_OK(save_model(folder / "model.safetensors", model));
    REQUIRE_OK(save_model(folder / "half.safetensors", model, Dtype::f16));
    require_script(folder, read_and_write);

    const auto theirs = load_model(folder / "theirs.safetensors");
    REQUIRE_OK(theirs);
    CHECK(theirs->metadata.recipe_json == model.metadata.recipe_json);

    const auto mixed = read_safetensors(folder / "mixed.safetensors");
    REQUIRE_OK(mixed);
    CHECK(mixed->metadata.at("who") == "numpy");
    CHECK(mixed->tensors.at("step").dtype == Dtype::i64);
    const auto half = decode_tensor(*mixed, "f16");
    REQUIRE_OK(half);
    CHECK((*half)[0] == 1.5F);
    CHECK((*half)[1] == -65504.0F);
    CHECK((*half)[2] == 0x1.0p-24F);
    const auto integers = decode_tensor(*mixed, "i8");
    REQUIRE_OK(integers);
    CHECK(integers->shape() == Shape{1, 2});
    CHECK((*integers)[0] == -128.0F);
    const auto scalar = decode_tensor(*mixed, "scalar");
    REQUIRE_OK(scalar);
    CHECK((*scalar)[0] == 0.25F);
}
