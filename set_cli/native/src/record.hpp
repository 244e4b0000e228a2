// Records that Python passes: structs whose fields are listed once. The list makes the struct's members, their
// conversion from a Python tuple (module.cpp) and their names, which set_cli/native/records.py must have in this order.
//
//   #define SET_POINT(FIELD) FIELD(double, x) FIELD(double, y)
//   struct Point { SET_RECORD(Point, SET_POINT) };
//
// A field may be a number, an address or another record; module.cpp has one `take` for each type.
#pragma once

#define SET_RECORD_MEMBER(type, name) type name;
#define SET_RECORD_NAME(type, name) #name,
#define SET_RECORD_VISIT(type, name) visit(name);
#define SET_RECORD(record, FIELDS)                                          \
    FIELDS(SET_RECORD_MEMBER)                                               \
    static constexpr const char* record_name = #record;                     \
    static constexpr const char* field_names[] = {FIELDS(SET_RECORD_NAME)}; \
    /* Calls visit(member) for each member in the order of the list. */     \
    template <typename Visit>                                               \
    void visit_fields(Visit&& visit) {                                      \
        FIELDS(SET_RECORD_VISIT)                                            \
    }
