// Scores images with a folder that `patchcore export` wrote (format onnx or openvino). Needs OpenVINO and nothing else.
//
//   patchcore_score DIR IMAGE...
//
// Images are PGM or PPM files (P5, P6; 8 or 16 bits), or .npy arrays (N, H, W, C) of uint8, uint16 or float32, as
// the test vectors of the folder are. A line for each: file, number in it, score, normalised score, verdict, largest
// value of the anomaly map. Everything between pixels and verdict is in the graph, so that it cannot differ here.
// The exit code is 1 if one could not be scored. Damaged files are found by sha256sum --check SHA256SUMS in DIR.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef _WIN32
#include <io.h>
#else
#include <unistd.h>
#endif
#include <openvino/openvino.hpp>

FILE *results = stdout;

struct Pixels {
    ov::Shape shape;            // N, H, W, C
    std::string type;           // uint8, uint16 or float32
    std::vector<float> values;  // 0 to 255, 0 to 65535, or what the array holds
};

std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file || std::filesystem::is_directory(path)) throw std::runtime_error(path + ": cannot be read.");
    return {std::istreambuf_iterator<char>(file), {}};
}

template <typename T>
std::vector<float> floats(const char *data, size_t count) {
    std::vector<T> values(count);
    std::memcpy(values.data(), data, count * sizeof(T));
    return {values.begin(), values.end()};
}

// Version 1.0, C order, little endian: what numpy.save writes on the machines that OpenVINO runs on.
Pixels read_npy(const std::string &path, const std::string &file) {
    const std::string side = "([1-9]\\d{0,4})";
    const std::regex header("'descr': '[|<](u1|u2|f4)', 'fortran_order': False, 'shape': \\(" + side + ", " + side + ", " +
                            side + ", ([13])\\)");
    std::smatch found;
    const std::string text = file.substr(0, 256);
    if (file.size() < 10 || !std::regex_search(text, found, header))
        throw std::runtime_error(path + ": expected an array (N, H, W, C) of uint8, uint16 or float32, in C order.");
    const size_t begin = 10 + uint8_t(file[8]) + 256 * uint8_t(file[9]);
    ov::Shape shape;
    for (int i = 2; i < 6; ++i) shape.push_back(std::stoul(found[i]));
    const size_t count = ov::shape_size(shape), bytes = found[1].str()[1] - '0';
    if (file.size() != begin + count * bytes) throw std::runtime_error(path + ": cut off, or damaged.");
    const char *data = file.data() + begin;
    if (found[1] == "u1") return {shape, "uint8", floats<uint8_t>(data, count)};
    if (found[1] == "u2") return {shape, "uint16", floats<uint16_t>(data, count)};
    return {shape, "float32", floats<float>(data, count)};
}

Pixels read_pnm(const std::string &path, const std::string &file) {
    const std::string gap = "(?:\\s|#[^\\n]*\\n)+", side = "([1-9]\\d{0,5})";
    const std::regex header("^P([56])" + gap + side + gap + side + gap + "(255|65535)\\s");
    std::smatch found;
    const std::string text = file.substr(0, 1024);
    if (!std::regex_search(text, found, header))
        throw std::runtime_error(path + ": expected a PGM or PPM file (P5, P6) with values up to 255 or 65535, or .npy.");
    const ov::Shape shape = {1, std::stoul(found[3]), std::stoul(found[2]), found[1] == "5" ? 1u : 3u};
    const size_t count = ov::shape_size(shape), bytes = found[4] == "255" ? 1 : 2;
    if (file.size() < found.length(0) + count * bytes) throw std::runtime_error(path + ": cut off.");
    std::string data = file.substr(found.length(0), count * bytes);
    if (bytes == 1) return {shape, "uint8", floats<uint8_t>(data.data(), count)};
    for (size_t i = 0; i < count; ++i) std::swap(data[2 * i], data[2 * i + 1]);  // the file has the high byte first
    return {shape, "uint16", floats<uint16_t>(data.data(), count)};
}

Pixels read(const std::string &path) {
    const std::string file = contents(path);
    return file.compare(0, 6, "\x93NUMPY") == 0 ? read_npy(path, file) : read_pnm(path, file);
}

// What a pattern's groups hold in manifest.json, whose form is that of format 1.
std::smatch in(const std::string &manifest, const std::string &pattern) {
    std::smatch found;
    if (!std::regex_search(manifest, found, std::regex(pattern)))
        throw std::runtime_error("manifest.json: expected " + pattern +
                                 ". Give a folder that `patchcore export` wrote, with --format onnx or openvino.");
    return found;
}

void score(ov::InferRequest &request, const std::string &manifest, const std::string &path) {
    Pixels pixels = read(path);
    const std::string number = "\\s*([-+.eE\\d]+)\\s*";
    const std::smatch limits = in(manifest, "\"" + pixels.type + "\":\\s*\\[" + number + "," + number + "\\]");
    float range[] = {std::stof(limits[1]), std::stof(limits[2])};
    if (pixels.type == "float32" && std::regex_search(manifest, std::regex("\"check_float\":\\s*true")))
        for (float value : pixels.values)
            if (!(value >= 0 && value <= 1)) throw std::runtime_error(path + ": floats outside 0 to 1.");
    const std::string size = "[" + std::to_string(pixels.shape[1]) + "," + std::to_string(pixels.shape[2]) + "]";
    const std::string only = std::regex_replace(in(manifest, "\"static\":([^\\]}]+)")[1].str() + "]", std::regex("\\s"), "");
    if (only[0] == '[' && only != size)
        throw std::runtime_error(path + ": [height,width] is " + size + "; this model takes " + only + " only (--static).");
    request.set_tensor("image", ov::Tensor(ov::element::f32, pixels.shape, pixels.values.data()));
    request.set_tensor("value_range", ov::Tensor(ov::element::f32, {2}, range));
    request.infer();
    const auto floats_of = [&](const char *name) { return request.get_tensor(name).data<float>(); };
    const float *scores = floats_of("score"), *normalised = floats_of("normalised"), *map = floats_of("map");
    const auto *decisions = request.get_tensor("decision").data<int64_t>();
    const char *const verdicts[] = {"pass", "unsure", "fail"};
    for (size_t i = 0, area = pixels.shape[1] * pixels.shape[2]; i < pixels.shape[0]; ++i, map += area) {
        float largest = -INFINITY;  // of what is shown: outside a crop the map is NaN
        for (size_t at = 0; at < area; ++at) largest = std::fmax(largest, map[at]);
        std::fprintf(results, "%s\t%zu\t%.9g\t%.9g\t%s\t%.9g\n", path.c_str(), i, scores[i], normalised[i], verdicts[decisions[i]], largest);
    }
}

int main(int count, char **arguments) {
    const bool help = count == 2 && std::string(arguments[1]) == "--help";
    if (count < 3) return std::fprintf(help ? stdout : stderr, "Usage: patchcore_score DIR IMAGE...\n"), help ? 0 : 2;
    // What the engine prints, where it was told to log, goes to standard error, and results alone to standard output.
    if (FILE *own = fdopen(dup(1), "w")) results = own, dup2(2, 1);
    bool failed = false;
    try {
        const std::string folder = arguments[1], manifest = contents(folder + "/manifest.json");
        in(manifest, "\"format\":\\s*1\\D"), in(manifest, "\"engine\":\\s*\"(onnx|openvino)\"");
        ov::Core core;
        // On a processor that has bf16, OpenVINO would use it unasked.
        ov::CompiledModel model = core.compile_model(folder + "/" + in(manifest, "\"graph\":\\s*\"([^\"]+)\"")[1].str(), "CPU",
                                                     ov::hint::inference_precision(ov::element::f32));
        ov::InferRequest request = model.create_infer_request();
        for (int i = 2; i < count; ++i) try {
            score(request, manifest, arguments[i]);
        } catch (const std::exception &error) {
            failed = std::fprintf(stderr, "%s\n", error.what()) != 0;  // the others go on
        }
    } catch (const std::exception &error) {
        failed = std::fprintf(stderr, "%s\n", error.what()) != 0;
    }
    return std::fflush(results) != 0 || failed;
}
