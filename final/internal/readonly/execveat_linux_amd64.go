package readonly

const sysExecveat = 322
