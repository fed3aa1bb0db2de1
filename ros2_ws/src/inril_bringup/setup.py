import os
from glob import glob

from setuptools import find_packages, setup

package_name = "inril_bringup"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(),
    package_data={package_name: ["graphs/*.yaml", "*.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/launch", glob(os.path.join("launch", "*.launch.py"))),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="inril developers",
    maintainer_email="maintainers@inril.dev",
    description="Starting, watching and stopping an inril graph.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "lifecycle_manager = inril_bringup.lifecycle_manager:main",
            "inril = inril_bringup.cli:main",
        ]
    },
)
