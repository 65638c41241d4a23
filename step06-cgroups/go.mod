module gocker/step06-cgroups

go 1.26.5
