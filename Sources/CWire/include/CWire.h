// What Swift imports: the messages of proto/staffel.proto and the library under them.
#pragma once
#include <protobuf-c/protobuf-c.h>
#include "staffel.pb-c.h"
