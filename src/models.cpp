// The models by name, compiled once for float and double, so that programs that only use them compile in seconds.
#include "tttlib/models/configs.hpp"

namespace ttt {

template std::shared_ptr<Module<float>> create_model<float>(const std::string&, const ModelOptions&);
template std::shared_ptr<Module<double>> create_model<double>(const std::string&, const ModelOptions&);

}  // namespace ttt
