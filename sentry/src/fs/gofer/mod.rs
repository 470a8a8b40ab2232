//! Files of the host, behind the gofer. (The lead is writing this and `fs/overlay` right now.)
