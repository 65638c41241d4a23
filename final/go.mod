module gocker/final

go 1.26.5
