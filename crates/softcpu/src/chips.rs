//! The interrupt chips and timers of a machine: local APICs, I/O APIC, PICs, PIT.
