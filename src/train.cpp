// Bodies of train/ for tttlib::compiled.
#include "tttlib/train/classifier-inl.hpp"
#include "tttlib/train/report-inl.hpp"
#include "tttlib/train/training_state-inl.hpp"
