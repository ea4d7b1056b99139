"""The experiments of Zhao and Linderman (2023), one file each; see docs/reproduction.md."""
