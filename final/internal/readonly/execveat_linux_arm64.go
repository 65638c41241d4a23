package readonly

const sysExecveat = 281
