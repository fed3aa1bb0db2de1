from setuptools import find_packages, setup

package_name = "inril_calibration"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="inril developers",
    maintainer_email="maintainers@inril.dev",
    description="Collects poses and images for calibrations; finds parts by their tags.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "capture_node = inril_calibration.capture_node:main",
            "parts_node = inril_calibration.parts_node:main",
        ]
    },
)
