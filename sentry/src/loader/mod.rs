//! Loading programs: ELF, scripts, the initial stack, the vDSO.
