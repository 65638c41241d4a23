module gocker/step04-overlay

go 1.26.5
