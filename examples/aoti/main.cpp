// Runs a network that export.py compiled, without Python:
//   run_network LIBRARY PACKAGE INPUTS OUTPUT
// LIBRARY is clof_ext's, PACKAGE the compiled network, INPUTS a list of tensors that torch.save wrote; OUTPUT becomes
// the network's result, for torch.load.
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

std::vector<char> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::vector<char>& bytes, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), std::streamsize(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

std::vector<at::Tensor> read_tensors(const std::string& path) {
  const at::IValue list = torch::jit::pickle_load(read(path));
  std::vector<at::Tensor> tensors;
  for (const at::IValue& value : list.toListRef()) tensors.push_back(value.toTensor());
  return tensors;
}

void run(const std::string& library, const std::string& package, const std::string& inputs, const std::string& output) {
  // Loading it registers the operators that the network calls.
  if (!dlopen(library.c_str(), RTLD_NOW)) throw std::runtime_error(dlerror());
  torch::inductor::AOTIModelPackageLoader network(package);
  const std::vector<at::Tensor> results = network.run(read_tensors(inputs));
  write(torch::jit::pickle_save(results.at(0)), output);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::cerr << "usage: run_network LIBRARY PACKAGE INPUTS OUTPUT\n";
    return 2;
  }
  try {
    run(arguments[1], arguments[2], arguments[3], arguments[4]);
  } catch (const std::exception& error) {
    std::cerr << "run_network: " << error.what() << "\n";
    return 1;
  }
}
